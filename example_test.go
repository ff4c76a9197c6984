package authsome_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"

	"authsome"
	"authsome/flows"
	"authsome/vault/secret"

	"golang.org/x/oauth2"
)

// keyring answers every question for a key with the same one. A real one would
// show a form, and never log the answer.
type keyring string

func (k keyring) Key(context.Context, authsome.KeyRequest) (authsome.KeyAnswer, error) {
	return authsome.KeyAnswer{Key: secret.New(string(k))}, nil
}

func (keyring) Client(context.Context, flows.ClientRequest) (flows.ClientAnswer, error) {
	return flows.ClientAnswer{}, fmt.Errorf("this provider takes a key")
}

func (keyring) Visit(_ context.Context, v flows.Visit) error {
	fmt.Println("open", v.URL)
	return nil
}

// example opens a vault in a temporary home that is logged in to OpenAI. A
// program of your own calls authsome.Open(ctx, authsome.Options{}).
func example(ctx context.Context) (client *authsome.Client, done func()) {
	dir, err := os.MkdirTemp("", "authsome-example-")
	if err != nil {
		log.Fatal(err)
	}
	client, err = authsome.Open(ctx, authsome.Options{Home: dir, Getenv: func(string) string { return "" }})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Login(ctx, authsome.LoginRequest{Provider: "openai"}, keyring("sk-example-0123456789abcdef")); err != nil {
		log.Fatal(err)
	}
	return client, func() { client.Close(); os.RemoveAll(dir) }
}

// standIn is api.openai.com on the loopback: it tells what it received.
func standIn() (base http.RoundTripper, done func()) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s received %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
	}))
	roots := x509.NewCertPool()
	roots.AddCert(api.Certificate())
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, api.Listener.Addr().String())
		}}, api.Close
}

// Make requests without ever holding a credential.
func ExampleClient_Transport() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, done := example(ctx)
	defer done()
	base, stop := standIn() // leave Base out to reach the real one
	defer stop()

	transport, err := client.Transport(ctx, authsome.TransportConfig{Base: base})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Get("https://api.openai.com/v1/models")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", body)
	fmt.Printf("and the request held %q\n", resp.Request.Header.Get("Authorization"))
	// Output:
	// GET /v1/models received "Bearer sk-example-0123456789abcdef"
	// and the request held ""
}

// Hand a credential to a library that wants it in clear.
func ExampleClient_AccessToken() {
	ctx := context.Background()
	client, done := example(ctx)
	defer done()

	token, err := client.AccessToken(ctx, "openai", "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(token), "characters, renewed first where that is due")
	// Output: 27 characters, renewed first where that is due
}

// Set the headers of a request that another library makes.
func ExampleClient_AuthHeaders() {
	ctx := context.Background()
	client, done := example(ctx)
	defer done()

	header, err := client.AuthHeaders(ctx, "openai", "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(header)
	// Output: map[Authorization:[Bearer sk-example-0123456789abcdef]]
}

// Give an SDK the token source that it asks for.
func ExampleClient_TokenSource() {
	ctx := context.Background()
	client, done := example(ctx)
	defer done()
	base, stop := standIn()
	defer stop()

	source := oauth2.ReuseTokenSource(nil, client.TokenSource(ctx, "openai", ""))
	sdk := &http.Client{Transport: &oauth2.Transport{Source: source, Base: base}}
	resp, err := sdk.Get("https://api.openai.com/v1/models")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", body)
	// Output: GET /v1/models received "Bearer sk-example-0123456789abcdef"
}

// Log in with a dialogue of one's own, and see what is connected.
func ExampleClient_Login() {
	ctx := context.Background()
	client, done := example(ctx)
	defer done()

	_, err := client.Login(ctx, authsome.LoginRequest{Provider: "openai", Connection: "work"}, keyring("sk-another-0123456789abcdef"))
	if err != nil {
		log.Fatal(err)
	}
	all, err := client.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range all {
		for _, c := range p.Connections {
			fmt.Println(p.DisplayName, c.Name, c.Status)
		}
	}
	// Output:
	// OpenAI default connected
	// OpenAI work connected
}

// Open the default profile of a home, and close it when done.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "authsome-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// Options{} is $AUTHSOME_HOME or ~/.authsome.
	client, err := authsome.Open(ctx, authsome.Options{Home: dir, Getenv: func(string) string { return "" }})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client.Profile)
	// Output: default
}

// Tell what can be used, without opening a secret.
func ExampleClient_List() {
	ctx := context.Background()
	client, done := example(ctx)
	defer done()

	providers, err := client.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range providers {
		for _, c := range p.Connections {
			fmt.Println(p.DisplayName, c.Name, c.Status)
		}
	}
	// Output: OpenAI default connected
}
