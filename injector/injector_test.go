package injector_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"authsome/injector"
	"authsome/vault/secret"
)

func request(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "https://api.example.com/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer authsome-proxy-managed")
	return r
}

func TestAttach(t *testing.T) {
	src := &source{value: "one"}
	in := injector.New(src)
	to := route(t, claim{"c", "api.example.com", false})
	for _, value := range []string{"one", "one", "two", "one"} { // a cached modifier must not outlive its credential
		src.value = value
		r := request(t)
		cred, err := in.Attach(t.Context(), to, r)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.Header.Get("Authorization"), "Bearer "+value; got != want || cred.Reveal() != value {
			t.Errorf("got %q with %q, want %q", got, cred.Reveal(), want)
		}
	}
}

// PITFALLS 1: a credential that cannot be had is an error that says so, and an
// empty one is none.
func TestAttachFailsClosed(t *testing.T) {
	gone := errors.New("gone")
	for name, tt := range map[string]struct {
		src  source
		want []error
	}{
		"the source fails":            {source{err: gone}, []error{injector.ErrCredential, gone}},
		"an empty credential":         {source{}, []error{injector.ErrCredentialShape}},
		"a credential of no header's": {source{value: "a\nb"}, []error{injector.ErrCredentialShape}},
	} {
		t.Run(name, func(t *testing.T) {
			in := injector.New(&tt.src)
			_, err := in.Attach(t.Context(), route(t, claim{"c", "api.example.com", false}), request(t))
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
		})
	}
}

func TestReplace(t *testing.T) {
	gone := errors.New("gone")
	for name, tt := range map[string]struct {
		src  injector.Source
		ok   bool
		want error
	}{
		"newer":              {&source{next: "new"}, true, nil},
		"the same":           {&source{next: "old"}, false, nil},
		"nothing":            {&source{}, false, nil},
		"failed":             {&source{err: gone}, false, injector.ErrCredential},
		"does not fit":       {&source{next: "a\nb"}, true, injector.ErrCredentialShape},
		"no power to do so":  {only{"old"}, false, nil},
		"failed with a text": {&source{err: gone, next: "new"}, false, gone},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			ok, err := injector.New(tt.src).Replace(t.Context(), route(t, claim{"c", "api.example.com", false}), secret.New("old"), r)
			if ok != tt.ok || !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v, want %v, %v", ok, err, tt.ok, tt.want)
			}
			if got := r.Header.Get("Authorization"); err == nil && ok && got != "Bearer new" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// only is a source that cannot refresh.
type only struct{ value string }

func (o only) Credential(context.Context, string, string) (secret.Text, error) {
	return secret.New(o.value), nil
}

// Requests of many goroutines share a route while its credential changes: each
// gets a whole credential, the one that its source gave.
func TestAttachIsConcurrent(t *testing.T) {
	to := route(t, claim{"c", "api.example.com", false})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in := injector.New(only{fmt.Sprint("credential-", i%2)})
			for range 500 {
				r := &http.Request{URL: request(t).URL, Header: http.Header{}}
				if _, err := in.Attach(t.Context(), to, r); err != nil {
					t.Error(err)
					return
				}
				if got, want := r.Header.Get("Authorization"), fmt.Sprint("Bearer credential-", i%2); got != want {
					t.Errorf("got %q, want %q", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestUpdateSwapsTheTable(t *testing.T) {
	in := injector.New(&source{})
	if in.Table().Len() != 0 {
		t.Error("a new Injector has routes")
	}
	routes := table(t, claim{"c", "api.example.com", false})
	in.Update(routes)
	if in.Table() != routes {
		t.Error("the table was not swapped")
	}
}

// Nothing that holds a credential prints it.
func TestModifiersDoNotPrintTheCredential(t *testing.T) {
	const canary = "canary-9d1e"
	to := route(t, claim{"c", "api.example.com", false})
	in := injector.New(&source{value: canary})
	cred, err := in.Attach(t.Context(), to, request(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, cred); strings.Contains(got, canary) {
			t.Errorf("%s of the credential: %s", verb, got)
		}
	}
}
