package provider_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"authsome/provider"
)

var update = flag.Bool("update", false, "write the generated documents instead of comparing them")

// maxListedHosts keeps the table readable.
const maxListedHosts = 4

// row is one provider in the table.
type row struct{ Name, Display, Hosts, Auth, Manner, Variable, Verified, Shared string }

// text returns a string of a definition's metadata.
func text(d *provider.Definition, key string) string {
	var s string
	_ = json.Unmarshal(d.Metadata[key], &s)
	return s
}

func sameHostAs(d *provider.Definition) []string {
	var names []string
	_ = json.Unmarshal(d.Metadata["same_host_as"], &names)
	return names
}

func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }

func rowOf(d *provider.Definition) row {
	r := row{Name: d.Name, Display: d.DisplayName, Auth: string(d.Flow), Verified: strings.ReplaceAll(text(d, "verification"), "_", " ")}
	var hosts []string
	for _, h := range d.HostURL {
		hosts = append(hosts, code(strings.TrimPrefix(h, "https://")))
	}
	if extra := len(hosts) - maxListedHosts; extra > 1 {
		hosts = append(hosts[:maxListedHosts], fmt.Sprintf("and %d more", extra))
	}
	r.Hosts = strings.Join(hosts, ", ")
	if base := d.DefaultBaseURL(); base != "" {
		r.Hosts += "; base URL " + code(strings.TrimPrefix(base, "https://"))
	} else if d.NeedsBaseURL() {
		r.Hosts += "; base URL per site"
	}
	var manners []string
	for _, in := range d.Injects() {
		manners = append(manners, describe(in))
	}
	r.Manner = strings.Join(manners, ", ")
	if d.APIKey != nil && d.AuthType == provider.AuthAPIKey {
		r.Variable = code(d.APIKey.EnvVar)
	} else {
		r.Variable = code(d.Client.ClientIDEnv)
	}
	if text(d, "unverified") != "" && r.Verified != "unchecked" {
		r.Verified += " in part"
	}
	if names := sameHostAs(d); len(names) > 0 && d.Name < names[0] {
		r.Shared = "`" + strings.Join(names, "`, `") + "`"
	}
	return r
}

func describe(in provider.Inject) string {
	switch in.Manner {
	case provider.MannerHeader:
		return code(in.Name + ": " + in.Format)
	case provider.MannerQuery:
		return code("?" + in.Name + "=" + in.Format)
	case provider.MannerBasic:
		return "Basic " + code(in.Username+":"+in.Password)
	case provider.MannerSigV4:
		return "AWS Signature Version 4"
	}
	return code("Authorization: Bearer " + in.Format)
}

func renderProviders(t *testing.T) []byte {
	t.Helper()
	tmpl, err := template.ParseFiles(filepath.Join("testdata", "providers.md.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, e := range provider.Bundled().All() {
		rows = append(rows, rowOf(e.Definition))
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, rows); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestDocs holds that docs/ says what the definitions say. Run go generate
// ./provider after a change.
func TestDocs(t *testing.T) {
	for path, want := range map[string][]byte{
		"providers.md":         renderProviders(t),
		"provider.schema.json": provider.Schema(),
	} {
		path = filepath.Join("..", "docs", path)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not current: run go generate ./provider", path)
		}
	}
}

var jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")

func TestDocsExamplesAreValid(t *testing.T) {
	blocks := jsonBlock.FindAllSubmatch(renderProviders(t), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want 2", len(blocks))
	}
	s := compileSchema(t)
	for _, b := range blocks {
		if _, err := provider.Parse(b[1]); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
		if err := validate(t, s, b[1]); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
	}
}
