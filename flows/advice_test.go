package flows_test

import (
	"net/http"
	"testing"

	"authsome/flows"
	"authsome/vault/secret"
)

// A login without a name is to the provider's default connection, so the advice to
// log in names every other, one that is called "default" too.
func TestAdviceNamesTheConnection(t *testing.T) {
	r := setup(t, &http.Client{Transport: forbidden{t}}, keyDefinition)
	login := func(connection string) error {
		_, err := r.LoginAPIKey(t.Context(), flows.Login{Provider: r.entry("keyed"), Connection: connection}, secret.New(canary+"-"+connection))
		return err
	}
	for _, connection := range []string{"default", "work"} {
		if err := login(connection); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(byDefault string, hints map[string]string) {
		t.Helper()
		for connection, want := range hints {
			if got := hint(login(connection)); got != want {
				t.Errorf("%s, when %s is the default: %q, want %q", connection, byDefault, got, want)
			}
		}
	}
	wants("default", map[string]string{"": "run: authsome login keyed --force", "default": "run: authsome login keyed --force", "work": "run: authsome login keyed --connection work --force"})
	if err := r.SetDefault(t.Context(), "keyed", "work"); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"default": "run: authsome login keyed --connection default --force", "work": "run: authsome login keyed --connection work --force"}
	wants("work", other)
	r.follow() // from the snapshot as well
	wants("work", other)
	if _, err := r.Credential(t.Context(), "keyed", "gone"); hint(err) != "run: authsome login keyed --connection gone" {
		t.Errorf("hint = %q", hint(err))
	}
}
