package provider

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"authsome/vault/regular"
)

// Where an [Entry] comes from.
const (
	SourceBundled = "bundled"
	SourceCustom  = "custom"
)

const extension = ".json"

// Entry is a definition in a registry.
type Entry struct {
	*Definition
	Source    string // SourceBundled or SourceCustom
	Path      string // the user's file; "" for a bundled one
	Overrides bool   // a custom one that replaces a bundled one
}

// Registry knows the bundled definitions and the user's own. It changes by
// Reload alone, and is safe for concurrent use.
type Registry struct {
	bundled map[string]*bundle
	own     atomic.Pointer[ownFiles]
}

// ownFiles are the user's definitions, as they were last read.
type ownFiles struct {
	custom map[string]*Entry
	bad    map[string]error // names whose file cannot be used
}

// Load makes a registry of the bundled definitions and of the user's files in
// dir, which win. A directory that is not there is empty; "" is none.
//
// Each user file that cannot be used adds one error, which names the file, and
// [Registry.Lookup] of its name fails with the same error: the bundled
// definition of that name does not take its place in silence.
func Load(dir string) (*Registry, []error) {
	r := Bundled()
	return r, r.Reload(dir)
}

// Reload reads the user's files in dir anew, for what is asked from here on.
// The errors are those of [Load].
func (r *Registry) Reload(dir string) []error {
	own := &ownFiles{custom: map[string]*Entry{}, bad: map[string]error{}}
	errs := own.read(dir, r.bundled)
	r.own.Store(own)
	return errs
}

func (own *ownFiles) read(dir string, bundled map[string]*bundle) []error {
	if dir == "" {
		return nil
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("read provider definitions: %w", err))
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), extension)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, f.Name())
		def, err := readDefinition(path, name)
		if err != nil {
			errs = append(errs, err)
			own.bad[name] = err
			continue
		}
		_, overrides := bundled[name]
		own.custom[name] = &Entry{Definition: def, Source: SourceCustom, Path: path, Overrides: overrides}
	}
	return errs
}

// readDefinition reads a user's file, which must be called after the provider.
func readDefinition(path, name string) (*Definition, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Errors{{File: path, Msg: "cannot be read: " + cause(err).Error()}}
	}
	def, err := Parse(data)
	if err != nil {
		return nil, inFile(path, err)
	}
	if def.Name != name {
		errs := Errors{{Path: "name", Msg: fmt.Sprintf("is %q, and the file is called %s", def.Name, name+extension),
			Fix: fmt.Sprintf("rename the file to %s, or write %q", def.Name+extension, name)}}
		locate(data, errs)
		return nil, inFile(path, errs)
	}
	return def, nil
}

// readFile reads a regular file of bounded size. Anything else could block the
// program (a pipe) or exhaust it.
func readFile(path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxDefinitionBytes+1))
}

// cause drops the path from a file system error: [Error] names it already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// inFile adds the file to the errors of a definition.
func inFile(path string, err error) error {
	var all Errors
	if errors.As(err, &all) {
		for _, e := range all {
			e.File = path
		}
	}
	return err
}

func (r *Registry) files() *ownFiles {
	if own := r.own.Load(); own != nil {
		return own
	}
	return &ownFiles{}
}

// Lookup returns the entry of a name. It fails with the error of the user's file
// of that name, or with a [*NotFoundError].
func (r *Registry) Lookup(name string) (*Entry, error) {
	own := r.files()
	if err := own.bad[name]; err != nil {
		return nil, err
	}
	if e, ok := own.custom[name]; ok {
		return e, nil
	}
	if b, ok := r.bundled[name]; ok {
		return &Entry{Definition: b.definition(), Source: SourceBundled}, nil
	}
	return nil, &NotFoundError{Name: name, Suggestions: Suggest(name, r.Names())}
}

// Invalid returns how many of the user's files cannot be used.
func (r *Registry) Invalid() int { return len(r.files().bad) }

// Names returns the names of all usable entries, sorted, without reading the
// bundled ones.
func (r *Registry) Names() []string {
	own := r.files()
	names := make([]string, 0, len(r.bundled)+len(own.custom))
	for name := range r.bundled {
		if own.bad[name] == nil && own.custom[name] == nil {
			names = append(names, name)
		}
	}
	for name := range own.custom {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// All returns every usable entry, sorted by name.
func (r *Registry) All() []*Entry {
	names := r.Names()
	all := make([]*Entry, 0, len(names))
	for _, name := range names {
		if e, err := r.Lookup(name); err == nil {
			all = append(all, e)
		}
	}
	return all
}

// PermittedDNS returns the names and addresses that credentials may go to with
// the definitions' default base URLs, for the authority's name constraints, each
// sorted. For a wildcard or an expression it is the domain that all its hosts
// are under. Hosts of base URLs chosen at login come from their connections.
func (r *Registry) PermittedDNS() (dns []string, ips []net.IP) {
	for _, e := range r.All() {
		hosts := e.HostURL
		if e.NeedsBaseURL() {
			base := e.DefaultBaseURL()
			hosts = nil
			for _, h := range e.HostURL {
				if base != "" || !strings.Contains(h, BaseURLTemplate) {
					hosts = append(hosts, substitute(h, base))
				}
			}
		}
		for _, h := range hosts {
			if p, err := parseHostURL(h); err == nil {
				dns, ips = p.permitted(dns, ips)
			}
		}
	}
	slices.Sort(dns)
	slices.SortFunc(ips, func(a, b net.IP) int { return slices.Compare(a, b) })
	return slices.Compact(dns), slices.CompactFunc(ips, net.IP.Equal)
}

// permitted appends what a certificate for the pattern's hosts has to name.
func (p HostPattern) permitted(dns []string, ips []net.IP) ([]string, []net.IP) {
	if p.Kind == Regex {
		return append(dns, p.Suffix), ips
	}
	if addr, err := netip.ParseAddr(p.Host); err == nil {
		return dns, append(ips, net.IP(addr.AsSlice()))
	}
	return append(dns, p.Host), ips
}
