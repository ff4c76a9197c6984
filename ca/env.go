package ca

import (
	"slices"
	"strings"
)

// loopbackNames never go through the proxy: a child's own servers are its own.
var loopbackNames = []string{"127.0.0.1", "localhost", "::1"}

func isLoopbackName(s string) bool {
	return slices.ContainsFunc(loopbackNames, func(l string) bool { return strings.EqualFold(l, s) })
}

// environment is the child's: see Trust.Env. SSL_CERT_DIR is left alone, since
// clients that read it do so besides the file.
func (w *trustWriter) environment() map[string]string {
	env := map[string]string{
		"AUTHSOME_PROXY_MODE": "true",
		"WGETRC":              w.child(wgetrcName),
		"PHP_INI_SCAN_DIR":    w.phpScanDir(),
	}
	for _, name := range bundleVars {
		env[name] = w.child(bundleName)
	}
	if w.proxy == nil {
		env["JAVA_TOOL_OPTIONS"] = w.javaOptions(nil)
		return env
	}
	noProxy := w.noProxy()
	env["NODE_USE_ENV_PROXY"], env["JAVA_TOOL_OPTIONS"] = "1", w.javaOptions(noProxy)
	// Clients differ in which case they read; curl ignores HTTP_PROXY.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		env[name] = w.in.ProxyURL
		env[strings.ToLower(name)] = w.in.ProxyURL
	}
	env["NO_PROXY"] = strings.Join(noProxy, ",")
	env["no_proxy"] = env["NO_PROXY"]
	return env
}

// noProxy is what either variable lists, then the loopback and the caller's own,
// each once. A lone star would let the child around the proxy everywhere; it was
// said to the parent of another proxy, and is dropped.
func (w *trustWriter) noProxy() []string {
	var out []string
	add := func(entries ...string) {
		for _, e := range entries {
			if !slices.ContainsFunc(out, func(have string) bool { return strings.EqualFold(have, e) }) {
				out = append(out, e)
			}
		}
	}
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		for entry := range strings.FieldsFuncSeq(w.in.Environ(name), isListSeparator) {
			if entry == "*" {
				w.warn("%s=*: dropped for the child, which would not use this proxy at all", name)
				continue
			}
			add(entry)
		}
	}
	for _, entry := range out {
		if i := slices.IndexFunc(w.in.Intercepted, func(h string) bool { return bypasses(entry, h) }); i >= 0 {
			w.warn("NO_PROXY entry %q lets the child around the proxy on its way to %s", entry, w.in.Intercepted[i])
		}
	}
	for _, host := range w.in.Intercepted {
		if slices.Contains(loopbackNames, host) {
			w.warn("%s gets no credential: NO_PROXY always has the loopback, and the child goes there directly", host)
		}
	}
	add(loopbackNames...)
	add(w.in.NoProxy...)
	return out
}

func isListSeparator(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }

// bypasses reports whether a client that honours the NO_PROXY entry connects to
// host directly: the entry names it or a parent domain.
func bypasses(entry, host string) bool {
	entry = strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(entry, "*"), "."))
	return entry != "" && (host == entry || strings.HasSuffix(host, "."+entry))
}
