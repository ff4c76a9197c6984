package authsome_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "authsome"

// edges are the imports between our own packages, exactly. Dependencies point
// down only: from the command to the proxy, from the proxy to what decides and
// signs, from the flows to the vault. A new edge is a decision: make it here.
var edges = map[string][]string{
	"":                        {"flows", "flows/imports", "injector", "provider", "vault", "vault/audit", "vault/regular", "vault/secret"},
	"ca":                      {"vault/regular"},
	"deploy":                  {}, // tests alone
	"deploy/soak":             {}, // tests alone
	"flows":                   {"flows/oauth", "provider", "vault", "vault/audit", "vault/secret"},
	"flows/environ":           {},
	"flows/imports":           {"flows", "provider", "vault/secret"},
	"flows/oauth":             {"provider", "vault/secret"},
	"flows/pages":             {"flows/oauth", "vault/secret"},
	"injector":                {"provider", "vault/secret"},
	"provider":                {"vault/regular"},
	"proxy":                   {"ca", "injector", "provider", "proxy/internal/xconnect", "vault/audit", "vault/secret"},
	"proxy/internal/xconnect": {}, // a switch in net/http
	"proxy/isolate":           {},
	"vault":                   {"vault/audit", "vault/regular", "vault/secret"},
	"vault/audit":             {"vault/regular"},
	"vault/regular":           {}, // how files are opened
	"vault/secret":            {},
	"flows/oauth/oauthtest":   {}, // servers for tests

	"flows/imports/importstest": {}, // homes for tests

	"flows/imports/predecessor": {"flows", "flows/imports", "provider", "vault/regular", "vault/secret"},
}

// commands may import everything; nothing imports them.
const commands = "cmd/"

// pkg is what go list tells about a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// local is a package's path below the module, "" for the root. ok is false for
// what is not ours.
func local(path string) (name string, ok bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,Imports"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEdges holds the imports between our packages to the table.
func TestEdges(t *testing.T) {
	got := make(map[string][]string)
	for _, p := range goList(t, "./...") {
		from, _ := local(p.ImportPath)
		if strings.HasPrefix(from, commands) {
			continue
		}
		got[from] = []string{}
		for _, path := range p.Imports {
			if to, ok := local(path); ok {
				got[from] = append(got[from], to)
			}
		}
		slices.Sort(got[from])
	}
	for _, from := range slices.Sorted(maps.Keys(got)) {
		want, known := edges[from]
		if !known {
			t.Errorf("package %q is not in the table of edges: decide what it may import", from)
			continue
		}
		want = slices.Sorted(slices.Values(want))
		if !slices.Equal(got[from], want) {
			t.Errorf("package %q imports %q of ours, want %q", from, got[from], want)
		}
	}
	for from := range edges {
		if _, ok := got[from]; !ok {
			t.Errorf("the table has package %q, which does not exist", from)
		}
	}
}

// TestProxyKnowsNoProvider holds what the proxy takes from package provider to
// the spelling of hosts: what a provider is, is not its business.
func TestProxyKnowsNoProvider(t *testing.T) {
	allowed := []string{"CanonicalHost"}
	for _, p := range goList(t, "./proxy") {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "provider" && ast.IsExported(sel.Sel.Name) && imports(file, module+"/provider") &&
					!slices.Contains(allowed, sel.Sel.Name) {
					t.Errorf("%s uses provider.%s", name, sel.Sel.Name)
				}
				return true
			})
		}
	}
}

func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"`+path+`"` })
}

// TestSmallDependencies keeps the heavy halves of step-ca out of the program:
// each of them costs 19 to 22 MB and brings databases and cloud clients along.
func TestSmallDependencies(t *testing.T) {
	const certificates = "github.com/smallstep/certificates/"
	allowed := []string{"cas/apiv1", "cas/softcas"}
	for _, p := range goList(t, "-deps", "./...") {
		if name, ok := strings.CutPrefix(p.ImportPath, certificates); ok && !slices.Contains(allowed, name) {
			t.Errorf("the program depends on %s", p.ImportPath)
		}
	}
}

// TestLibraryWithoutSQLite keeps the database driver that one command needs, 4
// MB, out of the programs that use authsome as a library.
func TestLibraryWithoutSQLite(t *testing.T) {
	for _, p := range goList(t, "-deps", ".") {
		if strings.HasPrefix(p.ImportPath, "modernc.org/") {
			t.Errorf("the library depends on %s", p.ImportPath)
		}
	}
}

// TestTopLevel keeps the top of the repository as it is described.
func TestTopLevel(t *testing.T) {
	allowed := []string{"proxy", "ca", "injector", "vault", "flows", "cmd", "deploy", "provider", "docs", "skills"}
	built := []string{"bin"} // by make build; not in the repository
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) && !slices.Contains(built, e.Name()) {
			t.Errorf("folder %s/ is not one of %s", e.Name(), strings.Join(allowed, ", "))
		}
	}
}
