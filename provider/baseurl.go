package provider

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// clientIDTemplate stands for the client's id in a revocation_url.
const clientIDTemplate = "{client_id}"

// DefaultBaseURL is the base URL that a login offers, "" when there is none.
func (d *Definition) DefaultBaseURL() string {
	if d.OAuth != nil && d.OAuth.BaseURL != "" {
		return d.OAuth.BaseURL
	}
	if d.APIKey != nil {
		return d.APIKey.BaseURL
	}
	return ""
}

// NeedsBaseURL reports whether the definition depends on a base URL.
func (d *Definition) NeedsBaseURL() bool {
	for _, text := range d.templated() {
		if strings.Contains(*text, BaseURLTemplate) {
			return true
		}
	}
	return false
}

// templated are all places where {base_url} is substituted.
func (d *Definition) templated() []*string {
	var places []*string
	for i := range d.HostURL {
		places = append(places, &d.HostURL[i])
	}
	for i := range d.Inject {
		for j := range d.Inject[i].HostURL {
			places = append(places, &d.Inject[i].HostURL[j])
		}
	}
	if d.OAuth != nil {
		for _, u := range d.OAuth.urls() {
			places = append(places, u.at)
		}
		places = append(places, &d.OAuth.Issuer, &d.OAuth.Resource)
	}
	return places
}

// substitute puts a base URL in a text. The slash between the two is the
// text's.
func substitute(text, base string) string {
	return strings.ReplaceAll(text, BaseURLTemplate, strings.TrimRight(base, "/"))
}

// chosen is the base URL that a connection uses: the one given or the default.
func (d *Definition) chosen(base string) (string, error) {
	if base == "" {
		base = d.DefaultBaseURL()
	}
	if base == "" {
		if d.NeedsBaseURL() {
			return "", fmt.Errorf("provider %s needs a base URL such as https://example.com", d.Name)
		}
		return "", nil
	}
	if err := parseBaseURL(base); err != nil {
		return "", fmt.Errorf("base URL: %w", err)
	}
	if sameBaseURL(base, d.DefaultBaseURL()) {
		base = d.DefaultBaseURL() // one spelling, so that pinned entries compare
	}
	return strings.TrimRight(base, "/"), nil
}

// Routes returns the host_url entries that a login pins in its record, with
// {base_url} substituted. baseURL "" is the definition's default.
//
// With another base URL than the default, the entries that do not mention it
// are left out: they are the vendor's public hosts, and the token of a
// self-managed instance must never be sent there.
//
// It fails when the base URL is missing, is not an https URL, or leaves no
// entry.
func (d *Definition) Routes(baseURL string) ([]string, error) {
	base, err := d.chosen(baseURL)
	if err != nil {
		return nil, err
	}
	own := base != "" && !sameBaseURL(base, d.DefaultBaseURL())
	var hosts []string
	for _, entry := range d.HostURL {
		if own && !strings.Contains(entry, BaseURLTemplate) {
			continue
		}
		host := substitute(entry, base)
		if _, err := parseHostURL(host); err != nil {
			return nil, fmt.Errorf("provider %s with base URL %s: host_url: %w", d.Name, base, err)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("provider %s does not say where the credential of %s may go: none of its host_url entries mentions %s", d.Name, base, BaseURLTemplate)
	}
	return hosts, nil
}

// sameBaseURL compares base URLs as locations: HTTPS://Example.com:443/ is
// https://example.com.
func sameBaseURL(a, b string) bool {
	pa, errA := parseHostURL(a)
	pb, errB := parseHostURL(b)
	if errA != nil || errB != nil {
		return a == strings.TrimRight(b, "/")
	}
	return pa.Host == pb.Host && pa.Port == pb.Port && pa.PathPrefix == pb.PathPrefix
}

// Resolve returns a copy of the definition with {base_url} substituted in every
// URL and host_url. baseURL "" is the definition's default. It fails when the
// base URL is needed and missing, or is not a URL.
func (d *Definition) Resolve(baseURL string) (*Definition, error) {
	base, err := d.chosen(baseURL)
	if err != nil {
		return nil, err
	}
	r := d.clone()
	for _, text := range r.templated() {
		*text = substitute(*text, base)
	}
	return r, nil
}

// clone copies a definition as deep as it can be modified.
func (d *Definition) clone() *Definition {
	c := *d
	c.HostURL = slices.Clone(d.HostURL)
	c.Inject = slices.Clone(d.Inject)
	for i := range c.Inject {
		c.Inject[i].HostURL = slices.Clone(c.Inject[i].HostURL)
		c.Inject[i].extra = maps.Clone(c.Inject[i].extra)
	}
	if d.OAuth != nil {
		o := *d.OAuth
		o.Scopes = slices.Clone(o.Scopes)
		o.AuthorizeParams, o.TokenHeaders = maps.Clone(o.AuthorizeParams), maps.Clone(o.TokenHeaders)
		o.extra = maps.Clone(o.extra)
		c.OAuth = &o
	}
	if d.APIKey != nil {
		k := *d.APIKey
		k.extra = maps.Clone(k.extra)
		c.APIKey = &k
	}
	c.Headers, c.Export.Env = maps.Clone(d.Headers), maps.Clone(d.Export.Env)
	c.Metadata, c.extra = maps.Clone(d.Metadata), maps.Clone(d.extra)
	c.Client.extra, c.Export.extra = maps.Clone(d.Client.extra), maps.Clone(d.Export.extra)
	return &c
}

// OwnEndpoints are the URLs at which the provider issues and takes back
// credentials. Requests to them are never injected: an agent that called them
// would get tokens in clear. Take them from a resolved definition; a URL that
// depends on the client ends before its id.
func (d *Definition) OwnEndpoints() []string {
	if d.OAuth == nil {
		return nil
	}
	var list []string
	for _, u := range d.OAuth.urls() {
		url, _, _ := strings.Cut(*u.at, clientIDTemplate)
		url = strings.TrimRight(url, "/")
		if url != "" && !slices.Contains(list, url) {
			list = append(list, url)
		}
	}
	return list
}
