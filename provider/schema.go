package provider

import (
	_ "embed"
	"slices"
)

//go:embed provider.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a definition, for editors.
// What it rejects, [Parse] rejects too, except that Parse takes null for a field
// that is not there. Parse checks more than a schema can say.
func Schema() []byte { return slices.Clone(schema) }
