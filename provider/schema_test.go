package provider_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"authsome/provider"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func parseError(text string) error {
	_, err := provider.Parse([]byte(text))
	return err
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(provider.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("provider.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("provider.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestBundledDefinitionsSatisfySchema(t *testing.T) {
	s := compileSchema(t)
	files, err := filepath.Glob("definitions/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, s, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemaAgrees holds that the schema and the program accept the same
// definitions, and reject the same wherever a schema can express the rule.
func TestSchemaAgrees(t *testing.T) {
	s := compileSchema(t)
	for _, tc := range goodDefinitions {
		if err := validate(t, s, []byte(definitionOf(t, tc.oauth, tc.changes))); err != nil {
			t.Errorf("%s: the schema rejects what the program accepts: %v", tc.name, err)
		}
	}
	for _, tc := range badDefinitions {
		err := validate(t, s, []byte(definitionOf(t, tc.oauth, tc.changes)))
		if (err != nil) != tc.schema {
			t.Errorf("%s: schema says %v, want an error: %v", tc.name, err, tc.schema)
		}
	}
}
