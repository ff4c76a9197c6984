package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"strings"
)

// maxDepth bounds the nesting of an answer; real ones have three levels.
const maxDepth = 32

// fields is a decoded answer: strings, json.Number, bool, nil, []any and nested fields.
type fields map[string]any

// consequential are the names whose second occurrence in one object makes an answer unusable: two
// readers could take different values from it. A name that nobody acts on may repeat.
var consequential = map[string]bool{
	"access_token": true, "refresh_token": true, "id_token": true, "token_type": true,
	"expires_in": true, "scope": true, "error": true, "ok": true,
	"device_code": true, "user_code": true, "verification_uri": true, "verification_url": true,
	"verification_uri_complete": true, "interval": true,
	"issuer": true, "authorization_endpoint": true, "token_endpoint": true,
	"client_id": true, "client_secret": true, "redirect_uris": true,
}

var errNesting = errors.New("nested too deeply")

// decode reads the body of an answer. JSON is what the standards ask for; a form is what some
// endpoints send when they ignore Accept. The errors quote nothing of the body.
func decode(contentType string, body []byte) (fields, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case len(body) == 0:
		return nil, errors.New("the answer is empty")
	case body[0] == '{':
		return decodeJSON(body)
	case body[0] == '<' || strings.HasSuffix(media, "html"):
		return nil, errors.New("the answer is a web page, not JSON; is the URL right?")
	case formLike(media, body):
		return decodeForm(body)
	}
	return nil, errors.New("the answer is not a JSON object")
}

func decodeJSON(body []byte) (fields, error) {
	if !json.Valid(body) {
		return nil, errors.New("the answer is not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	return v.(fields), nil
}

// decodeValue is json.Unmarshal into any, but exact about the case of names and unforgiving about
// names that occur twice. The input is known to be valid JSON.
func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errNesting
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, errors.New("the answer is not valid JSON")
	}
	switch tok {
	case json.Delim('{'):
		return decodeObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return tok, nil
}

func decodeObject(dec *json.Decoder, depth int) (any, error) {
	object := fields{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, errors.New("the answer is not valid JSON")
		}
		name := tok.(string) // json.Valid saw to it
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if _, twice := object[name]; twice && consequential[name] {
			return nil, fmt.Errorf("the answer has %s twice", name)
		}
		object[name] = v
	}
	_, err := dec.Token()
	return object, err
}

// formLike says whether a body that is not JSON is worth reading as a form: it is declared as one, or
// is untyped text that has the one field that matters.
func formLike(media string, body []byte) bool {
	if media == "application/x-www-form-urlencoded" {
		return true
	}
	return (media == "" || media == "text/plain") &&
		(bytes.Contains(body, []byte("access_token=")) || bytes.Contains(body, []byte("error=")))
}

func decodeForm(body []byte) (fields, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the answer is not a valid form")
	}
	object := fields{}
	for name, list := range values {
		if len(list) > 1 && consequential[name] {
			return nil, fmt.Errorf("the answer has %s twice", name)
		}
		object[name] = list[0]
	}
	return object, nil
}

// text gives a field that is a string; "" when it is absent or something else.
func (f fields) text(name string) string {
	s, _ := f[name].(string)
	return s
}

// scalar gives a field that is a string or a number as a string.
func (f fields) scalar(name string) string {
	switch v := f[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// flag gives a field that is true, in JSON or spelled out.
func (f fields) flag(name string) bool {
	b, _ := f[name].(bool)
	return b
}

// list gives a field that is a list of strings, or one string as a list of one.
func (f fields) list(name string) []string {
	switch v := f[name].(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// object gives a nested object; nil when there is none.
func (f fields) object(name string) fields {
	o, _ := f[name].(fields)
	return o
}

// at walks a dotted path to the object that holds its last name; nil when a step is missing.
func (f fields) at(path string) (holder fields, name string) {
	steps := strings.Split(path, ".")
	last := len(steps) - 1
	for _, step := range steps[:last] {
		f = f.object(step)
	}
	return f, steps[last]
}

// secrets gathers every string of the answer whose name says that it is one. Their only use is to
// redact them from the provider's own error texts.
func (f fields) secrets() secrets {
	var found secrets
	for name, v := range f {
		switch v := v.(type) {
		case string:
			if secretName(name) {
				found = found.with(v)
			}
		case fields:
			found = append(found, v.secrets()...)
		case []any:
			for _, e := range v {
				if object, ok := e.(fields); ok {
					found = append(found, object.secrets()...)
				}
			}
		}
	}
	return found
}

func secretName(name string) bool {
	name = strings.ToLower(name)
	if name == "token_type" || strings.HasSuffix(name, "_endpoint") {
		return false
	}
	for _, part := range []string{"token", "secret", "password", "assertion", "device_code"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// readLimited reads at most MaxAnswerBytes and reports whether there was more.
func readLimited(r io.Reader) (body []byte, tooLarge bool, err error) {
	body, err = io.ReadAll(io.LimitReader(r, MaxAnswerBytes+1))
	if len(body) > MaxAnswerBytes {
		return nil, true, nil
	}
	return body, false, err
}
