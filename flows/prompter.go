package flows

import (
	"context"
	"net/http"

	"authsome/flows/oauth"
	"authsome/provider"
)

// Prompter is the person, or what stands in for one, during an OAuth login.
type Prompter interface {
	// Client asks for the OAuth client to log in with. Where nobody can be
	// asked it may answer with the ClientID of the request alone.
	Client(ctx context.Context, req ClientRequest) (ClientAnswer, error)

	// Visit has the user open a page and returns at once. ctx ends when the
	// login has been decided.
	Visit(ctx context.Context, v Visit) error
}

// ResultPager is the optional power of a [Prompter] to dress the page on which
// the browser ends up.
type ResultPager interface {
	ResultPage(w http.ResponseWriter, r oauth.Result)
}

// VisitChecker is the optional power of a [Prompter] to say beforehand why nobody can
// be shown a page, so that no client is registered for a login that cannot be.
type VisitChecker interface {
	Visitable() error
}

// BaseURLPrompter is the optional power of a [Prompter] to ask for the base URL
// of a login whose client is known. It is asked for a new connection of a
// provider that has one to choose. last is what to offer, "" for nothing; an
// answer of "" is the definition's own.
type BaseURLPrompter interface {
	BaseURL(ctx context.Context, def *provider.Definition, last string) (string, error)
}

// Visit is a page that the user has to open to approve a login.
type Visit struct {
	URL         string
	RedirectURI string                     // where the browser comes back to; "" of a device login
	Device      *oauth.DeviceAuthorization // of a device login; nil otherwise
}
