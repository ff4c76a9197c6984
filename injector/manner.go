package injector

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"authsome/provider"
	"authsome/vault/secret"

	"github.com/google/martian/v3"
	"github.com/google/martian/v3/fifo"
)

// ErrCredentialShape is returned when a credential cannot be attached the way
// its provider wants it: a "first:second" one without a colon, or a value that
// no header may carry.
var ErrCredentialShape = errors.New("credential does not fit its provider's manner")

// attach modifies r with the credential, building the modifier when the
// credential has changed since the last request.
func (r *Route) attach(cred secret.Text, req *http.Request) error {
	value := cred.Reveal()
	if value == "" {
		return fmt.Errorf("%w: empty", ErrCredentialShape)
	}
	if a := r.applied.Load(); a != nil && a.credential == value {
		return a.modifier.ModifyRequest(req)
	}
	m, err := NewModifier(r.Injects, r.Headers, cred)
	if err != nil {
		return err
	}
	r.applied.Store(&applied{credential: value, modifier: m})
	return m.ModifyRequest(req)
}

// NewModifier builds the request modifier for one credential: each inject in
// turn, then the definition's static headers. The modifier holds the
// credential and is as secret as it.
func NewModifier(injects []provider.Inject, headers map[string]string, cred secret.Text) (martian.RequestModifier, error) {
	var mods []martian.RequestModifier
	for _, in := range injects {
		m, err := newManner(in, cred.Reveal())
		if err != nil {
			return nil, err
		}
		mods = append(mods, m)
	}
	if len(headers) > 0 {
		mods = append(mods, newDefaults(headers))
	}
	if len(mods) == 1 {
		return mods[0], nil
	}
	group := fifo.NewGroup()
	for _, m := range mods {
		group.AddRequestModifier(m)
	}
	return group, nil
}

func newManner(in provider.Inject, cred string) (martian.RequestModifier, error) {
	switch in.Manner {
	case provider.MannerBearer:
		v, err := expand(orDefault(in.Format, "{credential}"), cred)
		if err != nil {
			return nil, err
		}
		return newHeader("Authorization", "Bearer "+v)
	case provider.MannerHeader:
		v, err := expand(orDefault(in.Format, "{credential}"), cred)
		if err != nil {
			return nil, err
		}
		return newHeader(in.Name, v)
	case provider.MannerBasic:
		user, err := expand(in.Username, cred)
		if err != nil {
			return nil, err
		}
		password, err := expand(in.Password, cred)
		if err != nil {
			return nil, err
		}
		return newBasic(user, password)
	case provider.MannerQuery:
		v, err := expand(orDefault(in.Format, "{credential}"), cred)
		if err != nil {
			return nil, err
		}
		return newQuery(in.Name, v), nil
	case provider.MannerSigV4:
		id, key, ok := strings.Cut(cred, ":")
		if !ok || id == "" || key == "" {
			return nil, fmt.Errorf("%w: expected access key ID:secret access key", ErrCredentialShape)
		}
		return newSigV4(id, key), nil
	}
	return nil, fmt.Errorf("unknown manner %q", in.Manner)
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// expand fills a template of a definition. {credential.1} and {credential.2}
// are the halves of a credential written "first:second".
func expand(template, cred string) (string, error) {
	first, second, halves := strings.Cut(cred, ":")
	if !halves && strings.Contains(template, "{credential.") {
		return "", fmt.Errorf("%w: expected first:second", ErrCredentialShape)
	}
	// In one pass: what looks like a template in a credential is text.
	return strings.NewReplacer(provider.FirstTemplate, first, provider.SecondTemplate, second, provider.CredentialTemplate, cred).Replace(template), nil
}

// defaults sets headers that a provider wants on every call, such as a version,
// leaving the client's own choice alone.
type defaults struct {
	names  []string
	values [][]string
}

func newDefaults(headers map[string]string) *defaults {
	d := &defaults{}
	for name := range headers {
		d.names = append(d.names, name)
	}
	slices.Sort(d.names)
	for i, name := range d.names {
		d.values = append(d.values, []string{headers[name]})
		d.names[i] = http.CanonicalHeaderKey(name)
	}
	return d
}

// ModifyRequest implements martian.RequestModifier.
func (d *defaults) ModifyRequest(r *http.Request) error {
	for i, name := range d.names {
		if _, ok := r.Header[name]; !ok {
			r.Header[name] = d.values[i]
		}
	}
	return nil
}
