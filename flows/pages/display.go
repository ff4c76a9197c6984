package pages

import (
	"runtime"
	"strings"
)

// ciVariables are set by build services, most of which set CI as well. Nobody
// sits in front of a build.
var ciVariables = []string{"CI", "CONTINUOUS_INTEGRATION", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID"}

// Display reports whether a browser that is opened here can be expected to
// appear in front of the user: on macOS and Windows, and where DISPLAY or
// WAYLAND_DISPLAY names a display; over SSH only when the display is forwarded;
// in CI never. getenv is os.Getenv or what stands in for it.
func Display(getenv func(string) string) bool { return display(runtime.GOOS, getenv) }

func display(goos string, getenv func(string) string) bool {
	for _, name := range ciVariables {
		if set(getenv(name)) {
			return false
		}
	}
	remote := getenv("SSH_CONNECTION") != "" || getenv("SSH_CLIENT") != "" || getenv("SSH_TTY") != ""
	x11 := getenv("DISPLAY")
	switch {
	case goos == "darwin" || goos == "windows":
		return !remote // the screen is at the other end
	case remote:
		return forwarded(x11)
	}
	return x11 != "" || getenv("WAYLAND_DISPLAY") != ""
}

// forwarded says whether a DISPLAY is one that sshd makes: host:number, where a
// local one has no host.
func forwarded(x11 string) bool {
	host, _, found := strings.Cut(x11, ":")
	return found && host != "" && host != "unix" && !strings.Contains(host, "/") // a path is a local socket of macOS
}

// set reads a variable that may say no.
func set(value string) bool {
	switch strings.ToLower(value) {
	case "", "0", "false", "no", "off":
		return false
	}
	return true
}
