package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDefinitionBytes bounds a definition; bundled ones have about 1 KiB.
const maxDefinitionBytes = 1 << 20

// Parse reads and validates a definition. What is wrong comes back as
// [Errors]: a syntax error alone, or else everything else that was found, each
// with its JSON path and line.
//
// The fields source and connections, which an inspection of a provider adds,
// are dropped.
func Parse(data []byte) (*Definition, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors' byte order mark
	if err := checkSyntax(data); err != nil {
		return nil, Errors{err}
	}
	d, errs := decode(data)
	errs = append(repeatedKeys(data), errs...)
	if len(errs) == 0 {
		errs = d.problems()
	}
	if len(errs) > 0 {
		locate(data, errs)
		return nil, errs
	}
	return d, nil
}

// UnmarshalJSON reads a definition as [Parse] does.
func (d *Definition) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*d = *parsed
	return nil
}

// checkSyntax finds the first thing that is not JSON (RFC 8259).
func checkSyntax(data []byte) *Error {
	if len(data) > maxDefinitionBytes {
		return &Error{Msg: fmt.Sprintf("is larger than %d bytes", maxDefinitionBytes), Fix: "give the path of a provider definition"}
	}
	if i := invalidUTF8(data); i >= 0 {
		e := &Error{Msg: "is not UTF-8", Fix: "save the file as UTF-8"}
		e.Line, e.Column = lineColumn(data, i)
		return e
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return nil
	}
	e := &Error{Msg: "is not JSON: " + err.Error(), Fix: "mend the JSON at this place"}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		// The offset is behind the byte that did not fit, or at the end.
		at := int(syntax.Offset) - 1
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			at = len(data)
			e.Fix = "complete the file: a brace, bracket or quote is not closed"
		}
		e.Line, e.Column = lineColumn(data, max(at, 0))
	}
	return e
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// decode reads a definition without validating its values.
func decode(data []byte) (*Definition, Errors) {
	d := &Definition{}
	dec := decoder{}
	dec.object("", data, d)
	for _, added := range []string{"source", "connections"} {
		delete(d.extra, added)
	}
	return d, dec.errs
}

// decoder gathers everything that does not have the type it should have.
type decoder struct{ errs Errors }

func (dec *decoder) fail(path, msg, fix string) {
	dec.errs = append(dec.errs, &Error{Path: path, Msg: msg, Fix: fix})
}

// wrong reports a value of the wrong JSON type.
func (dec *decoder) wrong(path, want string, raw json.RawMessage) {
	msg := fmt.Sprintf("is %s, not %s", jsonType(raw), want)
	if path == "" {
		msg = "the document " + msg
	}
	dec.fail(path, msg, "write "+want)
}

// object reads raw into o, field by field. encoding/json would match keys
// whatever their case; here a key in another case is an error, because it would
// otherwise be kept as unknown and have no effect.
func (dec *decoder) object(path string, raw json.RawMessage, o object) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		dec.wrong(path, "an object", raw)
		return
	}
	if oauth, ok := o.(*OAuth); ok {
		oauth.PKCE = true
	}
	for _, f := range o.fields() {
		value, ok := m[f.key]
		delete(m, f.key)
		if _, nullable := f.at.(**string); ok && (nullable || string(value) != "null") {
			dec.value(join(path, f.key), value, f.at)
		}
	}
	for key := range m {
		for _, f := range o.fields() {
			if strings.EqualFold(key, f.key) {
				dec.fail(join(path, key), "is not a field", "write "+f.key)
			}
		}
	}
	if len(m) > 0 {
		*o.unknown() = m
	}
}

// value reads one field.
func (dec *decoder) value(path string, raw json.RawMessage, at any) {
	switch at := at.(type) {
	case *string:
		dec.scalar(path, "a string", raw, at)
	case *int:
		dec.scalar(path, "a whole number", raw, at)
	case *bool:
		dec.scalar(path, "true or false", raw, at)
	case **string:
		*at = new(string) // null is "", and absent is nil
		dec.scalar(path, "a string or null", raw, *at)
	case *oneOrMany:
		if raw[0] == '"' {
			*at = make([]string, 1)
			dec.scalar(path, "a string", raw, &(*at)[0])
			return
		}
		*at = dec.list(path, "a string or a list of strings", raw)
	case *[]string:
		*at = dec.list(path, "a list of strings", raw)
	case *map[string]string:
		*at = dec.texts(path, raw)
	case *map[string]json.RawMessage:
		dec.scalar(path, "an object", raw, at)
	case *[]Inject:
		*at = dec.injects(path, raw)
	case **OAuth:
		*at = &OAuth{}
		dec.object(path, raw, *at)
	case **APIKey:
		*at = &APIKey{}
		dec.object(path, raw, *at)
	case object:
		dec.object(path, raw, at)
	default:
		panic(fmt.Sprintf("provider: no decoder for %T", at)) // a field table is wrong
	}
}

func (dec *decoder) scalar(path, want string, raw json.RawMessage, at any) {
	if json.Unmarshal(raw, at) != nil {
		dec.wrong(path, want, raw)
	}
}

func (dec *decoder) list(path, want string, raw json.RawMessage) []string {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		dec.wrong(path, want, raw)
		return nil
	}
	list := make([]string, len(items))
	for i, item := range items {
		dec.text(fmt.Sprintf("%s[%d]", path, i), item, &list[i])
	}
	return list
}

// text reads a string where null has no meaning.
func (dec *decoder) text(path string, raw json.RawMessage, at *string) {
	if raw[0] != '"' {
		dec.wrong(path, "a string", raw)
		return
	}
	dec.scalar(path, "a string", raw, at)
}

func (dec *decoder) texts(path string, raw json.RawMessage) map[string]string {
	var items map[string]json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		dec.wrong(path, "an object of strings", raw)
		return nil
	}
	out := make(map[string]string, len(items))
	for _, key := range sorted(items) {
		var s string
		dec.text(join(path, key), items[key], &s)
		out[key] = s
	}
	return out
}

func (dec *decoder) injects(path string, raw json.RawMessage) []Inject {
	if raw[0] == '{' {
		one := make([]Inject, 1)
		dec.object(path, raw, &one[0])
		return one
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		dec.wrong(path, "an object or a list of objects", raw)
		return nil
	}
	list := make([]Inject, len(items))
	for i, item := range items {
		dec.object(fmt.Sprintf("%s[%d]", path, i), item, &list[i])
	}
	return list
}

// jsonType names the type of a JSON value.
func jsonType(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "the number " + string(raw[:min(len(raw), 20)])
}

// join appends a key to a JSON path. Keys that are not plain words are quoted.
func join(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isWord(r) }) {
		return path + fmt.Sprintf("[%q]", key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func isWord(r rune) bool {
	return r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// repeatedKeys reports keys that an object has twice. Readers disagree on which
// of the two counts, so that a person may approve what the program does not do.
func repeatedKeys(data []byte) Errors {
	var errs Errors
	walk(data, func(path string, offset int, repeated bool) {
		if repeated {
			e := &Error{Path: path, Msg: "is there twice", Fix: "remove one of the two"}
			e.Line, e.Column = lineColumn(data, offset)
			errs = append(errs, e)
		}
	})
	return errs
}

// locate gives each error the line and column of its path, or of the nearest
// enclosing value that is there.
func locate(data []byte, errs Errors) {
	offsets := map[string]int{}
	walk(data, func(path string, offset int, _ bool) { offsets[path] = offset })
	for _, e := range errs {
		if e.Line > 0 {
			continue
		}
		path := e.Path
		offset, ok := offsets[path]
		for !ok && path != "" {
			path = path[:max(strings.LastIndexAny(path, ".["), 0)]
			offset, ok = offsets[path]
		}
		e.Line, e.Column = lineColumn(data, offset)
	}
	slices.SortStableFunc(errs, func(a, b *Error) int { return a.Line - b.Line })
}

// walk calls visit for every value of a valid document with its path, with the
// offset of its key or, in a list, of itself.
func walk(data []byte, visit func(path string, offset int, repeated bool)) {
	w := walker{data: data, dec: json.NewDecoder(bytes.NewReader(data)), visit: visit}
	w.dec.UseNumber()
	w.value("", w.next(), false)
}

type walker struct {
	data  []byte
	dec   *json.Decoder
	visit func(path string, offset int, repeated bool)
}

// next is the offset of the token that is read next.
func (w *walker) next() int {
	at := int(w.dec.InputOffset())
	for at < len(w.data) && strings.IndexByte(" \t\r\n:,", w.data[at]) >= 0 {
		at++
	}
	return at
}

func (w *walker) value(path string, offset int, repeated bool) {
	w.visit(path, offset, repeated)
	token, err := w.dec.Token()
	if err != nil {
		return // not reached: the syntax has been checked
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for w.dec.More() {
			at := w.next()
			token, err := w.dec.Token()
			key, ok := token.(string)
			if err != nil || !ok {
				return
			}
			w.value(join(path, key), at, seen[key])
			seen[key] = true
		}
	case json.Delim('['):
		for i := 0; w.dec.More(); i++ {
			w.value(fmt.Sprintf("%s[%d]", path, i), w.next(), false)
		}
	default:
		return
	}
	if _, err := w.dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		return
	}
}

// lineColumn turns an offset into a line and a column in bytes, from 1.
func lineColumn(data []byte, offset int) (line, column int) {
	before := data[:min(offset, len(data))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}
