package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MarshalJSON writes the definition with its known fields in a fixed order and
// then those that this program does not know, unchanged. A field that is not
// set is left out.
func (d *Definition) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	if err := encodeObject(&out, d); err != nil {
		return nil, fmt.Errorf("encode provider %s: %w", d.Name, err)
	}
	return out.Bytes(), nil
}

// Indented is the definition as a file: MarshalJSON's order, two spaces, a
// newline at the end, and <, > and & as they are.
func (d *Definition) Indented() ([]byte, error) {
	compact, err := d.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("encode provider %s: %w", d.Name, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func encodeObject(out *bytes.Buffer, o object) error {
	out.WriteByte('{')
	comma := false
	key := func(name string) error {
		if comma {
			out.WriteByte(',')
		}
		comma = true
		err := encode(out, name)
		out.WriteByte(':')
		return err
	}
	for _, f := range o.fields() {
		if !f.always && isUnset(f.at) {
			continue
		}
		if err := key(f.key); err != nil {
			return err
		}
		if err := encodeField(out, f.at); err != nil {
			return err
		}
	}
	rest := *o.unknown()
	for _, name := range sorted(rest) {
		if err := key(name); err != nil {
			return err
		}
		if err := encode(out, rest[name]); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

// isUnset reports whether a field has nothing to write.
func isUnset(at any) bool {
	switch at := at.(type) {
	case *string:
		return *at == ""
	case *bool:
		return !*at
	case **string:
		return *at == nil
	case *oneOrMany:
		return *at == nil
	case *[]string:
		return *at == nil
	case *map[string]string:
		return *at == nil
	case *map[string]json.RawMessage:
		return *at == nil
	case *[]Inject:
		return *at == nil
	case **OAuth:
		return *at == nil
	case **APIKey:
		return *at == nil
	case object:
		for _, f := range at.fields() {
			if !isUnset(f.at) {
				return false
			}
		}
		return len(*at.unknown()) == 0
	}
	return false
}

func encodeField(out *bytes.Buffer, at any) error {
	switch at := at.(type) {
	case *oneOrMany:
		if len(*at) == 1 {
			return encode(out, (*at)[0])
		}
		return encode(out, []string(*at))
	case *[]Inject:
		return encodeInjects(out, *at)
	case **OAuth:
		return encodeObject(out, *at)
	case **APIKey:
		return encodeObject(out, *at)
	case object:
		return encodeObject(out, at)
	}
	return encode(out, at)
}

func encodeInjects(out *bytes.Buffer, list []Inject) error {
	if len(list) == 1 {
		return encodeObject(out, &list[0])
	}
	out.WriteByte('[')
	for i := range list {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := encodeObject(out, &list[i]); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

// encode writes a plain value; URLs keep their ampersands.
func encode(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // Encode ends with a newline
	return nil
}
