package main

import (
	"net/http"
	"sync"

	"authsome/ca"
	"authsome/flows/oauth"
)

// readableFile is what to do about a variable that names no file of certificates.
const readableFile = "have the variable name a PEM file that you can read, or unset it"

// providerClient talks to providers' own endpoints. It looks first at the roots
// that verify them: to read them, which happens once, may never end.
func (a *app) providerClient() *http.Client {
	return &http.Client{Transport: &checkedRoots{getenv: a.getenv}}
}

// checkedRoots is the default transport behind ca.CheckRoots.
type checkedRoots struct {
	getenv func(string) string
	once   sync.Once
	err    error
}

// RoundTrip implements http.RoundTripper.
func (c *checkedRoots) RoundTrip(r *http.Request) (*http.Response, error) {
	c.once.Do(func() {
		if err := ca.CheckRoots(c.getenv); err != nil {
			c.err = &oauth.LocalError{Err: err, Next: readableFile}
		}
	})
	if c.err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, c.err
	}
	return http.DefaultTransport.RoundTrip(r)
}
