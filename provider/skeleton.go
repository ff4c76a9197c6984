package provider

import (
	"net"
	"regexp"
)

// Kind says how a [HostPattern] matches.
type Kind int

// The kinds, most specific first.
const (
	Exact Kind = iota
	Wildcard
	Regex
)

type HostPattern struct {
	Kind       Kind
	Host       string
	Port       uint16
	PathPrefix string
	Regexp     *regexp.Regexp
	Suffix     string
	Raw        string
}

type Entry struct {
	*Definition
	Source    string
	Path      string
	Overrides bool
}

type Registry struct{}

func Parse(data []byte) (*Definition, error)                       { return nil, nil }
func (d *Definition) Validate() error                              { return nil }
func (d *Definition) Injects() []Inject                            { return nil }
func ParseHostURL(s string) (HostPattern, error)                   { return HostPattern{}, nil }
func CanonicalHost(h string) (string, error)                       { return h, nil }
func (d *Definition) Routes(baseURL string) ([]string, error)      { return nil, nil }
func (d *Definition) Resolve(baseURL string) (*Definition, error)  { return d, nil }
func (d *Definition) DefaultBaseURL() string                       { return "" }
func (d *Definition) NeedsBaseURL() bool                           { return false }
func (d *Definition) OwnEndpoints() []string                       { return nil }
func (d *Definition) Placeholder() string                          { return "authsome-proxy-managed" }
func ValidName(s string) error                                     { return nil }
func Load(dir string) (*Registry, []error)                         { return nil, nil }
func (r *Registry) Lookup(name string) (*Entry, error)             { return nil, ErrNotFound }
func (r *Registry) All() []*Entry                                  { return nil }
func (r *Registry) PermittedDNS() (dns []string, ips []net.IP)     { return nil, nil }
func Register(dir string, data []byte, force bool) (*Entry, error) { return nil, nil }
