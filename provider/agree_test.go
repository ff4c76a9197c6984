package provider_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// strange are values of which most do not belong where they are put. Null is not
// among them: the program takes it for a field that is not there.
var strange = []any{true, 7.0, 1.5, -1.0, "", "x", "a b", "oauth2", "api_key", "pkce", "none", "header", "query", "cookie", "https://api.example.com", "http://api.example.com",
	"*.example.com", "regex:.*", "{base_url}", "{credential}", "../x", []any{}, []any{"x"}, []any{1.0}, map[string]any{}, map[string]any{"x": "y"}, map[string]any{"x": 1.0}}

// place is somewhere in a JSON document: a key of an object or an index of a list.
type place struct {
	path string
	get  func() any
	set  func(any)
	drop func() // nil in a list
}

// places lists all of a document, in an order that is always the same.
func places(at string, v any) (all []place) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			path := strings.TrimPrefix(at+"."+key, ".")
			all = append(all, place{path, func() any { return v[key] }, func(x any) { v[key] = x }, func() { delete(v, key) }})
			all = append(all, places(path, v[key])...)
		}
	case []any:
		for i := range v {
			path := fmt.Sprintf("%s[%d]", at, i)
			all = append(all, place{path, func() any { return v[i] }, func(x any) { v[i] = x }, nil})
			all = append(all, places(path, v[i])...)
		}
	}
	return all
}

// mutate changes one thing and says what.
func mutate(r *rand.Rand, doc map[string]any) (what string, retyped bool) {
	all := places("", doc)
	p := all[r.IntN(len(all))]
	value := strange[r.IntN(len(strange))]
	switch n := r.IntN(10); {
	case n == 0 && p.drop != nil:
		p.drop()
		return p.path + " dropped", false
	case n == 1:
		if object, ok := p.get().(map[string]any); ok {
			object["x_unknown"] = value
			return fmt.Sprintf("%s.x_unknown = %v", p.path, value), false
		}
	}
	retyped = fmt.Sprintf("%T", p.get()) != fmt.Sprintf("%T", value)
	p.set(value)
	return fmt.Sprintf("%s = %#v", p.path, value), retyped
}

// TestSchemaAgreesOnMutations changes bundled definitions at random. What the
// program accepts, the schema accepts; and a value of the wrong type, which any
// schema can tell, is rejected by both or by neither.
func TestSchemaAgreesOnMutations(t *testing.T) {
	s := compileSchema(t)
	files, err := filepath.Glob("definitions/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	accepted, rejected := 0, 0
	for range 6000 {
		original, err := os.ReadFile(files[r.IntN(len(files))])
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(original, &doc); err != nil {
			t.Fatal(err)
		}
		what, retyped := mutate(r, doc)
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		program, schema := parseError(string(text)), validate(t, s, text)
		if program == nil {
			accepted++
		} else {
			rejected++
		}
		switch name := doc["name"]; {
		case program == nil && schema != nil:
			t.Errorf("%v, %s: the schema rejects what the program accepts: %v", name, what, schema)
		case retyped && program != nil && schema == nil && strings.Contains(program.Error(), ", not "):
			t.Errorf("%v, %s: the schema accepts what the program rejects for its type: %v", name, what, program)
		}
	}
	if accepted < 100 || rejected < 100 {
		t.Errorf("%d accepted, %d rejected: the mutations say too little", accepted, rejected)
	}
}
