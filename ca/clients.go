package ca

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"software.sslmate.com/src/go-pkcs12"
)

// truststore is the bundle as PKCS#12, which Java reads since 8u301 and 11.0.12.
func truststore(b *bundler) ([]byte, error) {
	entries := make([]pkcs12.TrustStoreEntry, len(b.certs))
	for i, cert := range b.certs {
		// Java keeps one certificate per alias, so subjects will not do: two
		// roots of one name would become one.
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: fmt.Sprintf("%04d", i)}
	}
	data, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, TruststorePassword)
	if err != nil {
		return nil, fmt.Errorf("make trust store: %w", err)
	}
	return data, nil
}

// wgetProxySetting finds a command of a wgetrc that decides on the proxy: there
// it wins over the environment. Case, underscores and dashes do not count.
var wgetProxySetting = regexp.MustCompile(`(?im)^[ \t]*(https?[_-]?proxy|use[_-]?proxy)[ \t]*=`)

// wgetrc is the parent's file, which WGETRC would otherwise hide, and ours. Of
// two settings wget takes the later.
func (w *trustWriter) wgetrc() ([]byte, error) {
	var out bytes.Buffer
	if !w.in.AllowOtherReaders {
		inherited, err := w.inheritedWgetrc()
		if err != nil {
			return nil, err
		}
		out.Write(inherited)
		if n := len(inherited); n > 0 && inherited[n-1] != '\n' {
			out.WriteByte('\n')
		}
		if w.proxy != nil && wgetProxySetting.Match(inherited) {
			fmt.Fprintf(&out, "use_proxy = on\nhttp_proxy = %s\nhttps_proxy = %[1]s\n", w.in.ProxyURL)
		}
	}
	fmt.Fprintf(&out, "ca_certificate = %s\n", w.child(bundleName))
	return out.Bytes(), nil
}

func (w *trustWriter) inheritedWgetrc() ([]byte, error) {
	if path := w.in.Environ("WGETRC"); path != "" {
		data, err := readNamed(path)
		if err != nil {
			return nil, fmt.Errorf("read the file that WGETRC names: %w", err)
		}
		return data, nil
	}
	home := w.in.Environ("HOME")
	if home == "" {
		return nil, nil
	}
	data, err := readNamed(filepath.Join(home, ".wgetrc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.warn("wget loses its settings: %v", err)
	}
	return data, nil
}

func (w *trustWriter) phpIni() ([]byte, error) {
	path, err := quotePHP(w.child(bundleName))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "curl.cainfo = %s\nopenssl.cafile = %[1]s\n", path), nil
}

// quotePHP writes a value of a php.ini. Single quotes take everything as it is;
// there is no way to write one between them, and double quotes expand ${…}.
func quotePHP(s string) (string, error) {
	switch {
	case !strings.Contains(s, "'"):
		return "'" + s + "'", nil
	case !strings.ContainsAny(s, `"\$`):
		return `"` + s + `"`, nil
	}
	return "", fmt.Errorf("write trust files: PHP cannot be given the path %q", s)
}

// phpScanDir appends our directory to the inherited path. An empty element
// stands for the directory that PHP was built with, which a set variable would
// otherwise hide.
func (w *trustWriter) phpScanDir() string {
	return w.in.Environ("PHP_INI_SCAN_DIR") + string(os.PathListSeparator) + w.child(phpDirName)
}

// javaOptions appends what the JVM needs to the inherited options; the later of
// two settings wins. The proxy's userinfo is left out: the JVM does not send it
// to a proxy, and it prints these options on stderr.
func (w *trustWriter) javaOptions(noProxy []string) string {
	inherited := w.in.Environ("JAVA_TOOL_OPTIONS")
	if strings.Contains(inherited, "-Djavax.net.ssl.trustStore=") {
		w.warn("JAVA_TOOL_OPTIONS names a trust store: Java gets the merged one instead, without what only that one holds")
	}
	var options []string
	if w.proxy != nil {
		host, port := w.proxy.Hostname(), w.proxy.Port()
		options = []string{
			"-Dhttp.proxyHost=" + host, "-Dhttp.proxyPort=" + port,
			"-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
			"-Dhttp.nonProxyHosts=" + javaNonProxyHosts(noProxy), // for https too
		}
	}
	options = append(options,
		"-Djavax.net.ssl.trustStore="+w.child(truststoreName),
		"-Djavax.net.ssl.trustStoreType=PKCS12",
		"-Djavax.net.ssl.trustStorePassword="+TruststorePassword)
	for i, o := range options {
		options[i] = quoteJVM(o)
	}
	return strings.TrimLeft(inherited+" "+strings.Join(options, " "), " ")
}

// quoteJVM quotes an option for JAVA_TOOL_OPTIONS: white space separates, either
// quote takes what follows up to the next of its kind, and nothing escapes.
func quoteJVM(option string) string {
	if !strings.ContainsFunc(option, func(r rune) bool { return unicode.IsSpace(r) || r == '\'' || r == '"' }) {
		return option
	}
	return "'" + strings.ReplaceAll(option, "'", `'"'"'`) + "'"
}

// javaNonProxyHosts translates a NO_PROXY list: Java's separates with a bar, and
// a star stands for anything. What Java cannot say is left out, and goes through
// the proxy.
func javaNonProxyHosts(noProxy []string) string {
	out := []string{"localhost", "127.*", "[::1]"}
	for _, entry := range noProxy {
		if isLoopbackName(entry) || strings.Trim(entry, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*:/") != "" {
			continue
		}
		if _, network, err := net.ParseCIDR(entry); err == nil {
			if pattern := octetPattern(network); pattern != "" {
				out = append(out, pattern)
			}
			continue
		}
		switch ip := net.ParseIP(entry); {
		case ip != nil && ip.To4() == nil:
			out = append(out, "["+entry+"]")
		case ip != nil:
			out = append(out, entry)
		case strings.ContainsAny(entry, ":/"): // with a port: would widen it
		case strings.HasPrefix(entry, "*"):
			out = append(out, entry)
		case strings.HasPrefix(entry, "."):
			out = append(out, "*"+entry)
		default:
			out = append(out, entry, "*."+entry)
		}
	}
	return strings.Join(out, "|")
}

// octetPattern writes an IPv4 network that ends on an octet, such as 10.0.0.0/8,
// as a prefix with a star; "" for any other.
func octetPattern(network *net.IPNet) string {
	ones, bits := network.Mask.Size()
	if bits != 32 || ones == 0 || ones%8 != 0 || ones == 32 {
		return ""
	}
	octets := strings.Split(network.IP.String(), ".")
	return strings.Join(octets[:ones/8], ".") + ".*"
}
