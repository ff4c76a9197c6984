package pages_test

import (
	"runtime"
	"testing"

	"authsome/flows/pages"
)

func TestDisplay(t *testing.T) {
	type env map[string]string
	const ssh = "10.0.0.1 50000 10.0.0.2 22"
	tests := []struct {
		name string
		goos string
		env  env
		want bool
	}{
		{"no display", "linux", env{}, false},
		{"X11", "linux", env{"DISPLAY": ":0"}, true},
		{"Wayland", "linux", env{"WAYLAND_DISPLAY": "wayland-0"}, true},
		{"X11 on BSD", "freebsd", env{"DISPLAY": ":0"}, true},
		{"macOS", "darwin", env{}, true},
		{"Windows", "windows", env{}, true},
		{"SSH", "linux", env{"SSH_CONNECTION": ssh}, false},
		{"SSH, forwarded", "linux", env{"SSH_CONNECTION": ssh, "DISPLAY": "localhost:10.0"}, true},
		{"SSH, forwarded to an address", "linux", env{"SSH_TTY": "/dev/pts/0", "DISPLAY": "10.0.0.2:10.0"}, true},
		{"SSH, the console's display", "linux", env{"SSH_CONNECTION": ssh, "DISPLAY": ":0"}, false},
		{"SSH, the console's display by name", "linux", env{"SSH_CONNECTION": ssh, "DISPLAY": "unix:0"}, false},
		{"SSH, the console's Wayland", "linux", env{"SSH_CLIENT": ssh, "WAYLAND_DISPLAY": "wayland-0"}, false},
		{"SSH to macOS", "darwin", env{"SSH_CONNECTION": ssh}, false},
		{"SSH to macOS, its own display", "darwin", env{"SSH_TTY": "/dev/ttys0", "DISPLAY": "/private/tmp/launch/org.xquartz:0"}, false},
		{"SSH to Windows", "windows", env{"SSH_CLIENT": ssh}, false},
		{"CI", "linux", env{"CI": "true", "DISPLAY": ":99"}, false},
		{"CI on macOS", "darwin", env{"CI": "1"}, false},
		{"not CI", "linux", env{"CI": "false", "DISPLAY": ":0"}, true},
		{"Azure Pipelines", "windows", env{"TF_BUILD": "True"}, false},
		{"Jenkins", "linux", env{"JENKINS_URL": "https://ci.example", "DISPLAY": ":0"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			getenv := func(name string) string { return test.env[name] }
			if got := pages.DisplayOn(test.goos, getenv); got != test.want {
				t.Errorf("display %v, want %v", got, test.want)
			}
			if got, want := pages.Display(getenv), pages.DisplayOn(runtime.GOOS, getenv); got != want {
				t.Errorf("here: %v, want %v", got, want)
			}
		})
	}
}
