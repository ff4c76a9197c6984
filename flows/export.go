package flows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"authsome/provider"
	"authsome/vault/secret"
)

// Exported are the variables of one connection.
type Exported struct {
	Provider   string
	Connection string
	Vars       map[string]secret.Text
}

// exportable are the secrets that are of use elsewhere and die by themselves, or
// are what the user entered.
var exportable = []string{"access_token", "id_token", "api_key"}

// Export returns a connection's credential under the names that its definition
// gives. It never holds a refresh token. With no name for what the connection
// holds it fails with ErrNoVariable.
func (b *Broker) Export(ctx context.Context, name, connection string) (Exported, error) {
	entry, err := b.registry.Lookup(name)
	if err != nil {
		return Exported{}, err
	}
	c, err := b.Fresh(ctx, name, connection)
	if err != nil {
		return Exported{}, err
	}
	out := Exported{Provider: name, Connection: c.Name, Vars: map[string]secret.Text{}}
	for field, variable := range entry.Export.Env {
		whole, _, _ := strings.Cut(field, ".")
		text, _ := c.SecretField(whole)
		if !slices.Contains(exportable, whole) || text.IsZero() {
			continue
		}
		half, ok := provider.HalfOf(field, text.Reveal())
		if !ok {
			return Exported{}, connectionError(name, c.Name, fmt.Errorf("%w: %s is a half of it, and it is not written first:second", ErrBadSecret, variable))
		}
		out.Vars[variable] = secret.New(half)
	}
	if len(out.Vars) == 0 {
		return Exported{}, noVariable(c)
	}
	return out, nil
}

// noVariable says what to add to the definition of a connection that has nothing
// to export.
func noVariable(c *Connection) error {
	field, suffix := "access_token", "TOKEN"
	if !c.APIKey.IsZero() {
		field, suffix = "api_key", "API_KEY"
	}
	variable := variablePart(c.Provider) + "_" + suffix
	if variable[0] <= '9' {
		variable = "_" + variable
	}
	return &ConnectionError{Provider: c.Provider, Connection: c.Name, Err: fmt.Errorf("%w: its definition has no export.env.%s", ErrNoVariable, field),
		Next: fmt.Sprintf(`add "export": {"env": {%q: %q}} to what authsome inspect %s prints, and register it with --force`, field, variable, c.Provider)}
}

// MergeExports puts several connections' variables into one flat map, revealed.
// A name that several of them claim gets _PROVIDER_CONNECTION appended. Names of
// providers and connections that differ in case or punctuation alone do not
// differ there: none of theirs is in the map, since either could be taken for the
// other, and the error is one *ConnectionError for each.
func MergeExports(all []Exported) (map[string]string, error) {
	claims := map[string]int{}
	for _, e := range all {
		for name := range e.Vars {
			claims[name]++
		}
	}
	named := func(e Exported, name string) string {
		if claims[name] > 1 {
			name += "_" + variablePart(e.Provider) + "_" + variablePart(e.Connection)
		}
		return name
	}
	uses := map[string]int{}
	for _, e := range all {
		for name := range e.Vars {
			uses[named(e, name)]++
		}
	}
	out := map[string]string{}
	var same []error
	for _, e := range all {
		for _, name := range slices.Sorted(maps.Keys(e.Vars)) {
			full := named(e, name)
			if uses[full] == 1 {
				out[full] = e.Vars[name].Reveal()
				continue
			}
			same = append(same, &ConnectionError{Provider: e.Provider, Connection: e.Connection, Err: fmt.Errorf("%w: %s", ErrSameVariable, full),
				Next: "export one at a time: authsome export " + e.Provider + " --connection " + e.Connection})
		}
	}
	return out, errors.Join(same...)
}

// variablePart makes a name fit for an environment variable.
func variablePart(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// SecretField returns a sensitive field by its stored name. ok is false when
// there is no such sensitive field; the text is zero when it is not set.
func (c *Connection) SecretField(name string) (text secret.Text, ok bool) {
	field, ok := c.secretFields()[name]
	if !ok {
		return secret.Text{}, false
	}
	return *field, true
}

// Public returns the record as it may be printed: sensitive fields that are set
// are secret.Text, which prints redacted.
func (c *Connection) Public() map[string]any {
	out := map[string]any{}
	b, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil { // Metadata alone could be at fault, and it came from JSON
		out = map[string]any{"connection_name": c.Name, "provider": c.Provider}
	}
	out["status"] = string(c.Status)
	for name, field := range c.secretFields() {
		if !field.IsZero() {
			out[name] = *field
		}
	}
	return out
}

// FieldNames returns the names in a record, in the order of reading.
func FieldNames(record map[string]any) []string {
	names := make([]string, 0, len(record))
	for name := range record {
		names = append(names, name)
	}
	rank := map[string]int{"provider": -4, "connection_name": -3, "profile": -2, "status": -1}
	sort.Slice(names, func(i, j int) bool {
		if rank[names[i]] != rank[names[j]] {
			return rank[names[i]] < rank[names[j]]
		}
		return names[i] < names[j]
	})
	return names
}
