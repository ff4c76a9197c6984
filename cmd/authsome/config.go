package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"authsome"
	"authsome/vault/regular"

	"go.yaml.in/yaml/v3"
)

// sidecarConfig is what authsome proxy runs with. In the configuration file each
// flag is a key, with _ for -; what takes several values takes one or a list.
type sidecarConfig struct {
	Listen            []string
	TransparentListen []string
	MetricsAddr       string
	CADir             string
	CALifetime        time.Duration // of a root that is made; 0 is 30 days
	BundleOut, EnvOut string
	AgentDir          string // the trust files' directory as the agent sees it; "": the same
	Advertise         string // host:port under which the agent reaches the proxy; "": the first of Listen
	TokenFile         string
	Egress            string
	AllowHost         []string
	Provider          []string
	Connection        []string
	UpstreamProxy     string
	Store             string // "file" or "memory"
	Credentials       []credentialSource
}

// credentialSource is one entry of credentials: a login that needs nobody.
type credentialSource struct {
	where        string // its path in the file, for messages
	Provider     string
	Connection   string // "": the provider's default one
	SecretFile   string // the API key, or the OAuth client's secret; "": the definition's variable
	ClientID     string
	ClientIDFile string
	BaseURL      string
	Scopes       []string
}

func defaultSidecar() sidecarConfig {
	return sidecarConfig{Listen: []string{"127.0.0.1:8080"}, MetricsAddr: "127.0.0.1:9090", Egress: "allow", Store: "file"}
}

// configBytes is more than any configuration; a larger file is the wrong file.
const configBytes = 1 << 20

// readConfig reads a YAML or JSON file over what cfg holds. Every mistake is
// reported, each with its line and its path.
func readConfig(path string, cfg *sidecarConfig) error {
	bad := func(err error) error {
		return &authsome.FileError{Path: path, Err: fmt.Errorf("%w: %w", authsome.ErrConfig, err), Next: "give a readable YAML or JSON file"}
	}
	f, err := regular.Open(path)
	if err != nil {
		return bad(bareCause(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, configBytes+1))
	if err != nil {
		return bad(errors.Unwrap(err))
	}
	if len(data) > configBytes {
		return bad(errors.New("it is larger than 1 MiB"))
	}
	if json.Valid(data) { // YAML takes JSON, but not with tabs; strings hold none
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	return decodeConfig(path, data, cfg)
}

func decodeConfig(path string, data []byte, cfg *sidecarConfig) error {
	r := &configReader{file: path}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	switch err := documents.Decode(&document); {
	case err == io.EOF: // empty: nothing is set
		return nil
	case err != nil:
		return &authsome.FileError{Path: path, Err: fmt.Errorf("%w: %w", authsome.ErrConfig, err), Next: "mend the YAML"}
	}
	if documents.Decode(&more) != io.EOF {
		r.fail(&more, "", "a second document: one file is one configuration")
	}
	r.object(document.Content[0], "", cfg.fields(r))
	return errors.Join(r.errs...)
}

// fields maps the file's keys to what they set.
func (cfg *sidecarConfig) fields(r *configReader) map[string]setter {
	return map[string]setter{
		"listen":             r.list(&cfg.Listen),
		"transparent_listen": r.list(&cfg.TransparentListen),
		"metrics_addr":       r.text(&cfg.MetricsAddr),
		"ca_dir":             r.text(&cfg.CADir),
		"ca_lifetime":        r.duration(&cfg.CALifetime, minCALifetime, maxCALifetime),
		"bundle_out":         r.text(&cfg.BundleOut),
		"env_out":            r.text(&cfg.EnvOut),
		"agent_dir":          r.text(&cfg.AgentDir),
		"advertise":          r.text(&cfg.Advertise),
		"token_file":         r.text(&cfg.TokenFile),
		"egress":             r.oneOf(&cfg.Egress, "allow", "deny"),
		"allow_host":         r.list(&cfg.AllowHost),
		"provider":           r.list(&cfg.Provider),
		"connection":         r.list(&cfg.Connection),
		"upstream_proxy":     r.text(&cfg.UpstreamProxy),
		"store":              r.oneOf(&cfg.Store, "file", "memory"),
		"credentials":        r.credentials(&cfg.Credentials),
	}
}

// setter takes a value of the file.
type setter func(value *yaml.Node, path string)

// configReader collects what is wrong with a file.
type configReader struct {
	file string
	errs []error
}

func (r *configReader) fail(at *yaml.Node, path, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if path != "" {
		msg = path + ": " + msg
	}
	r.errs = append(r.errs, &authsome.FileError{Path: r.file, Line: at.Line, Err: fmt.Errorf("%w: %s", authsome.ErrConfig, msg),
		Next: "mend the value in the file; see authsome proxy --help"})
}

// object walks the keys of a mapping. Null stands for an empty one.
func (r *configReader) object(value *yaml.Node, path string, fields map[string]setter) {
	seen := map[string]bool{}
	for key, v := range r.pairs(value, path) {
		at := joinPath(path, key.Value)
		set := fields[key.Value]
		switch {
		case set == nil:
			r.fail(key, at, "unknown key%s", didYouMean(key.Value, slices.Collect(maps.Keys(fields))))
		case seen[key.Value]:
			r.fail(key, at, "set twice")
		case v.Tag != "!!null": // nothing after the colon: not set
			set(v, at)
		}
		seen[key.Value] = true
	}
}

// pairs yields the keys and values of a mapping.
func (r *configReader) pairs(value *yaml.Node, path string) func(yield func(key, v *yaml.Node) bool) {
	return func(yield func(key, v *yaml.Node) bool) {
		if !r.kind(value, path, yaml.MappingNode, "keys and values") {
			return
		}
		for i := 0; i+1 < len(value.Content); i += 2 {
			if key := value.Content[i]; key.Kind != yaml.ScalarNode {
				r.fail(key, path, "a key must be plain text")
			} else if !yield(key, value.Content[i+1]) {
				return
			}
		}
	}
}

// kind checks what a node is. An alias is refused, not followed: a few of them
// make a small file unfold to gigabytes.
func (r *configReader) kind(v *yaml.Node, path string, want yaml.Kind, what string) bool {
	switch {
	case v.Kind == want, want == yaml.MappingNode && v.Tag == "!!null":
		return true
	case v.Kind == yaml.AliasNode:
		r.fail(v, path, "aliases (*%s) are not supported: write the value out", v.Value)
	default:
		r.fail(v, path, "want %s", what)
	}
	return false
}

// addressKeys are those whose values are no text in YAML when somebody writes a
// port alone.
var addressKeys = []string{"listen", "transparent_listen", "metrics_addr", "advertise"}

func (r *configReader) text(to *string) setter {
	return func(v *yaml.Node, path string) {
		if !r.kind(v, path, yaml.ScalarNode, "text") {
			return
		}
		if v.Tag != "!!str" {
			if key, _, _ := strings.Cut(path, "["); slices.Contains(addressKeys, key) {
				r.fail(v, path, "want an address such as 127.0.0.1:8080")
				return
			}
			r.fail(v, path, "want text: write %q, in quotes", v.Value)
			return
		}
		*to = v.Value
	}
}

func (r *configReader) list(to *[]string) setter {
	return func(v *yaml.Node, path string) {
		out := []string{}
		if v.Kind != yaml.SequenceNode {
			var one string
			if r.text(&one)(v, path); one != "" {
				out = append(out, one)
			}
		}
		for i, item := range v.Content {
			var one string
			r.text(&one)(item, fmt.Sprintf("%s[%d]", path, i))
			out = append(out, one)
		}
		*to = out
	}
}

func (r *configReader) oneOf(to *string, values ...string) setter {
	return func(v *yaml.Node, path string) {
		var s string
		r.text(&s)(v, path)
		if s != "" && !slices.Contains(values, s) {
			r.fail(v, path, "%q is not %s", s, strings.Join(values, " or "))
			return
		}
		*to = s
	}
}

// A root that ends sooner is replaced before agents have read its file; one that
// ends later outlives whoever remembers it.
const (
	minCALifetime = 10 * time.Second
	maxCALifetime = 366 * 24 * time.Hour
)

func (r *configReader) duration(to *time.Duration, least, most time.Duration) setter {
	return func(v *yaml.Node, path string) {
		var s string
		r.text(&s)(v, path)
		d, err := time.ParseDuration(s)
		switch {
		case s != "" && err != nil:
			r.fail(v, path, "%q is not a duration such as 720h", s)
			return
		case s != "" && (d < least || d > most):
			r.fail(v, path, "%s: want %v to %v", s, least, most)
			return
		}
		*to = d
	}
}

// credentials reads provider → one login or a list of them.
func (r *configReader) credentials(to *[]credentialSource) setter {
	return func(v *yaml.Node, path string) {
		seen := map[string]bool{}
		for key, logins := range r.pairs(v, path) {
			at := joinPath(path, key.Value)
			if seen[key.Value] {
				r.fail(key, at, "set twice: give a list for several connections")
			}
			seen[key.Value] = true
			if logins.Kind != yaml.SequenceNode {
				*to = append(*to, r.credential(key.Value, logins, at))
				continue
			}
			for i, login := range logins.Content {
				*to = append(*to, r.credential(key.Value, login, fmt.Sprintf("%s[%d]", at, i)))
			}
		}
	}
}

func (r *configReader) credential(provider string, v *yaml.Node, path string) credentialSource {
	c := credentialSource{where: path, Provider: provider}
	r.object(v, path, map[string]setter{
		"connection":     r.text(&c.Connection),
		"secret_file":    r.text(&c.SecretFile),
		"client_id":      r.text(&c.ClientID),
		"client_id_file": r.text(&c.ClientIDFile),
		"base_url":       r.text(&c.BaseURL),
		"scopes":         r.list(&c.Scopes),
	})
	if c.ClientID != "" && c.ClientIDFile != "" {
		r.fail(v, path, "client_id and client_id_file exclude each other")
	}
	return c
}

// joinPath appends a key, as JSON paths are written.
func joinPath(path, key string) string {
	switch {
	case strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "":
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

// didYouMean names the known key that is most like an unknown one.
func didYouMean(unknown string, known []string) string {
	slices.Sort(known)
	plain := strings.NewReplacer("-", "", "_", "", ".", "")
	for _, k := range known {
		a, b := strings.ToLower(plain.Replace(unknown)), plain.Replace(k)
		if a == b || len(a) > 3 && (strings.HasPrefix(b, a) || strings.HasPrefix(a, b)) {
			return fmt.Sprintf("; did you mean %s?", k)
		}
	}
	return "; known are " + strings.Join(known, ", ")
}
