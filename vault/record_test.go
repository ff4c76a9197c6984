package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authsome/vault"
	"authsome/vault/secret"
)

// alter rewrites the raw value under key, behind the vault's back.
func alter(t *testing.T, s vault.Store, key string, change func(raw []byte) []byte) {
	t.Helper()
	values, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, vault.Op{Key: key, Value: change(values[key])})
}

func apply(t testing.TB, v *kit, changes ...vault.Change) {
	t.Helper()
	if err := v.Apply(t.Context(), login, changes...); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, v *kit, key string) *vault.Entry {
	t.Helper()
	e, err := v.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// raw returns the members of the stored record.
func raw(t *testing.T, s vault.Store, key string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(contents(t, s, key)[key]), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStoredForm(t *testing.T) {
	v := open(t, nil)
	apply(t, v, vault.Change{Key: "k", Record: &vault.Record{
		Fields: map[string]json.RawMessage{
			"z": json.RawMessage(" [1,  2]\n"), "a": json.RawMessage(`{"x":"<é\u00e9>"}`), "<&>": json.RawMessage(`1e400`),
		},
		Secrets: map[string]secret.Text{"m": secret.New("s3cret"), "empty": secret.New("")},
	}})
	stored := contents(t, v.Store, "k")["k"]
	envelope := `\{"enc":1,"alg":"AES-256-GCM","kid":"[0-9a-f]{16}","nonce":"[^"]{16}","ciphertext":"[^"]*","tag":"[^"]{24}"\}`
	want := regexp.MustCompile(`^\{"\\u003c\\u0026\\u003e":1e400,"a":\{"x":"<é\\u00e9>"\},"empty":` + envelope + `,"m":` + envelope +
		`,"z":\[1,  2\],"~seal":\{"kid":"[0-9a-f]{16}","nonce":"[^"]{16}","tag":"[^"]{24}"\}\}$`)
	if !want.MatchString(stored) {
		t.Errorf("stored form %s", stored)
	}
	if strings.Contains(stored, "s3cret") || strings.Contains(stored, base64.StdEncoding.EncodeToString([]byte("s3cret"))) {
		t.Errorf("the secret is in the store: %s", stored)
	}
	got, err := get(t, v, "k").Record()
	if err != nil {
		t.Fatal(err)
	}
	if keys := slices.Sorted(maps.Keys(got.Fields)); !slices.Equal(keys, []string{"<&>", "a", "z"}) {
		t.Errorf("fields = %v", keys)
	}
	if s, ok := got.Secrets["empty"]; !ok || s.Reveal() != "" || got.Secrets["m"].Reveal() != "s3cret" {
		t.Errorf("secrets = %v", got.Secrets)
	}
	fields, err := get(t, v, "k").Fields()
	if err != nil || len(fields) != 3 || string(fields["a"]) != `{"x":"<é\u00e9>"}` {
		t.Errorf("Fields = %s, %v", fields, err)
	}
}

// Reading and writing back keeps what the reader does not know, byte for byte,
// and never uses a nonce twice.
func TestRewriteKeepsFieldsAndChangesNonces(t *testing.T) {
	v := open(t, nil)
	apply(t, v, vault.Change{Key: "k", Record: record("h", "t")})
	first := raw(t, v.Store, "k")
	entry := get(t, v, "k")
	r, err := entry.Record()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "k", Record: &r, Previous: entry})
	second := raw(t, v.Store, "k")
	for name := range first {
		same := bytes.Equal(first[name], second[name])
		if plain := name == "host_url" || name == "unknown"; same != plain {
			t.Errorf("%s: %s became %s", name, first[name], second[name])
		}
	}
	if entry.Equal(get(t, v, "k")) {
		t.Error("two versions count as equal")
	}
}

func TestAlteredRecords(t *testing.T) {
	swap := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
	tests := []struct {
		name  string
		alter func(t *testing.T, s vault.Store)
		field string
	}{
		{"envelope from another record", func(t *testing.T, s vault.Store) {
			other := raw(t, s, "b")["access_token"]
			mine := raw(t, s, "a")["access_token"]
			alter(t, s, "a", swap(string(mine), string(other)))
		}, "access_token"},
		{"envelope from another field", func(t *testing.T, s vault.Store) {
			alter(t, s, "a", swap(string(raw(t, s, "a")["access_token"]), string(raw(t, s, "a")["refresh_token"])))
		}, "access_token"},
		{"field renamed", func(t *testing.T, s vault.Store) { alter(t, s, "a", swap(`"access_token"`, `"api_key"`)) }, "api_key"},
		{"whole record from another key", func(t *testing.T, s vault.Store) {
			other := contents(t, s, "b")["b"]
			alter(t, s, "a", func([]byte) []byte { return []byte(other) })
		}, "access_token"},
		{"older envelope", func(t *testing.T, s vault.Store) { alter(t, s, "a", swap(`"enc":1`, `"enc":2`)) }, "access_token"},
		{"plain field edited", func(t *testing.T, s vault.Store) { alter(t, s, "a", swap("api.github.com", "evil.example.com")) }, ""},
		{"plain field added", func(t *testing.T, s vault.Store) { alter(t, s, "a", swap(`{`, `{"base_url":"https://evil",`)) }, ""},
		{"secret replaced by a plain value", func(t *testing.T, s vault.Store) {
			alter(t, s, "a", swap(string(raw(t, s, "a")["access_token"]), `"mine"`))
		}, ""},
		{"seal removed", func(t *testing.T, s vault.Store) {
			alter(t, s, "a", func(b []byte) []byte {
				return append(bytes.TrimSuffix(b[:bytes.LastIndex(b, []byte(`"~seal"`))], []byte(",")), '}')
			})
		}, ""},
		{"seal from another record", func(t *testing.T, s vault.Store) {
			alter(t, s, "a", swap(string(raw(t, s, "a")["~seal"]), string(raw(t, s, "b")["~seal"])))
		}, ""},
		{"unknown data key", func(t *testing.T, s vault.Store) {
			kid := regexp.MustCompile(`"kid":"[0-9a-f]{16}"`)
			alter(t, s, "a", func(b []byte) []byte { return kid.ReplaceAll(b, []byte(`"kid":"0000000000000000"`)) })
		}, "access_token"},
		{"not JSON", func(t *testing.T, s vault.Store) { alter(t, s, "a", func([]byte) []byte { return []byte("junk") }) }, ""},
		{"empty", func(t *testing.T, s vault.Store) { alter(t, s, "a", func([]byte) []byte { return []byte{} }) }, ""},
		{"null", func(t *testing.T, s vault.Store) { alter(t, s, "a", func([]byte) []byte { return []byte("null") }) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := open(t, nil)
			one := record("api.github.com", "aaa")
			one.Secrets["refresh_token"] = secret.New("rrr")
			two := record("api.github.com", "bbb")
			two.Secrets["refresh_token"] = secret.New("sss")
			apply(t, v, vault.Change{Key: "a", Record: one}, vault.Change{Key: "b", Record: two})
			tt.alter(t, v.Store)
			entries, err := v.List(t.Context(), "")
			if err != nil || len(entries) != 2 {
				t.Fatalf("List = %d entries, %v: a damaged record must not hide the others", len(entries), err)
			}
			_, err = entries[0].Record()
			var bad *vault.IntegrityError
			if !errors.As(err, &bad) || bad.Key != "a" {
				t.Fatalf("Record = %v, want *IntegrityError for a", err)
			}
			// Which of several bad fields is named depends on map order.
			if (bad.Field == "") != (tt.field == "") || tt.field != "" && !strings.HasSuffix(bad.Field, "_token") && bad.Field != tt.field {
				t.Errorf("error names field %q, want %q", bad.Field, tt.field)
			}
			if strings.Contains(err.Error(), "aaa") || strings.Contains(err.Error(), "bbb") {
				t.Errorf("the error discloses a secret: %v", err)
			}
			if _, err := entries[0].Fields(); !errors.As(err, &bad) {
				t.Errorf("Fields of an altered record = %v, want *IntegrityError", err)
			}
			if _, err := entries[1].Record(); err != nil {
				t.Errorf("the other record: %v", err)
			}
			// It can still be replaced.
			apply(t, v, vault.Change{Key: "a", Record: one, Previous: entries[0]})
			if _, err := get(t, v, "a").Record(); err != nil {
				t.Errorf("after it was replaced: %v", err)
			}
		})
	}
}

func TestRefusedRecords(t *testing.T) {
	fields := func(name, value string) *vault.Record {
		return &vault.Record{Fields: map[string]json.RawMessage{name: json.RawMessage(value)}}
	}
	twice := fields("a", "1")
	twice.Secrets = map[string]secret.Text{"a": secret.New("x")}
	ok := fields("a", "1")
	tests := map[string][]vault.Change{
		"empty field name":     {{Key: "k", Record: fields("", "1")}},
		"seal's name":          {{Key: "k", Record: fields("~seal", "1")}},
		"NUL in field name":    {{Key: "k", Record: fields("a\x00b", "1")}},
		"bad UTF-8 in name":    {{Key: "k", Record: fields("a\xff", "1")}},
		"not JSON":             {{Key: "k", Record: fields("a", "nope")}},
		"two JSON values":      {{Key: "k", Record: fields("a", `1,"b":2`)}},
		"looks like envelope":  {{Key: "k", Record: fields("a", ` {"enc":1}`)}},
		"plain and secret":     {{Key: "k", Record: twice}},
		"no key":               {{Key: "", Record: ok}},
		"NUL in key":           {{Key: "a\x00b", Record: ok}},
		"the vault's own key":  {{Key: vault.KeysKey, Record: ok}},
		"a lease's key":        {{Key: vault.LockPrefix + "x"}},
		"changed twice":        {{Key: "k", Record: ok}, {Key: "k"}},
		"create without value": {{Key: "k", Create: true}},
	}
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			v := open(t, nil)
			if err := v.Apply(t.Context(), login, changes...); err == nil {
				t.Error("Apply accepted it")
			}
			if events := auditEvents(t, v); len(events) != 0 {
				t.Errorf("audited %v, which did not happen", events)
			}
			for key := range contents(t, v.Store, "") {
				if key != vault.KeysKey {
					t.Errorf("stored %s", key)
				}
			}
		})
	}
}

func TestGetOfReservedKey(t *testing.T) {
	v := open(t, nil)
	apply(t, v, vault.Change{Key: "k", Record: record("h", "t")})
	if _, err := v.Get(t.Context(), vault.KeysKey); err == nil {
		t.Error("Get returned the key document")
	}
	if entries, err := v.List(t.Context(), "vault"); err != nil || len(entries) != 0 {
		t.Errorf("List shows the vault's own keys: %v, %v", entries, err)
	}
}
