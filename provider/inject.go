package provider

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Injects returns how a credential is attached, with every default spelled out.
// A definition without inject sends a bearer token (oauth2), or what its
// api_key section says.
func (d *Definition) Injects() []Inject {
	if len(d.Inject) == 0 {
		return []Inject{d.defaultInject()}
	}
	list := make([]Inject, len(d.Inject))
	for i, in := range d.Inject {
		in.HostURL = slices.Clone(in.HostURL)
		if in.Format == "" && in.Manner != MannerBasic && in.Manner != MannerSigV4 {
			in.Format = CredentialTemplate
		}
		list[i] = in
	}
	return list
}

func (d *Definition) defaultInject() Inject {
	if d.AuthType != AuthAPIKey || d.APIKey == nil {
		return Inject{Manner: MannerBearer, Format: CredentialTemplate}
	}
	in := Inject{Manner: MannerHeader, Name: d.APIKey.HeaderName, Format: CredentialTemplate}
	if in.Name == "" {
		in.Name = "Authorization"
	}
	prefix := "Bearer"
	if d.APIKey.HeaderPrefix != nil {
		prefix = strings.TrimRight(*d.APIKey.HeaderPrefix, " ")
	}
	if prefix != "" {
		in.Format = prefix + " " + CredentialTemplate
	}
	return in
}

// injects checks inject, and that each host gets the credential in one way.
func (c *checker) injects() {
	d := c.d
	for i := range d.Inject {
		c.inject(indexed("inject", i, len(d.Inject)), &d.Inject[i])
	}
	if len(d.Inject) == 0 {
		return
	}
	for i, entry := range d.HostURL {
		path := indexed("host_url", i, len(d.HostURL))
		targets := map[string]bool{}
		for _, in := range InjectsFor(d.Inject, entry) {
			target := in.target()
			if targets[target] {
				c.fail(path, "two injects set its "+target, "limit each with host_url, or remove one")
			}
			targets[target] = true
		}
		if len(targets) == 0 {
			c.fail(path, "no inject applies to it", "name it in the host_url of an inject, or have one without host_url")
		}
	}
}

// InjectsFor chooses the injects of one host_url entry: those that name it, or
// else those that name none.
func InjectsFor(injects []Inject, entry string) []Inject {
	var general, special []Inject
	for _, in := range injects {
		switch {
		case len(in.HostURL) == 0:
			general = append(general, in)
		case slices.Contains(in.HostURL, entry):
			special = append(special, in)
		}
	}
	if len(special) > 0 {
		return special
	}
	return general
}

// target is what an inject sets.
func (in *Inject) target() string {
	switch in.Manner {
	case MannerHeader:
		return strings.ToLower(in.Name) + " header"
	case MannerQuery:
		return "query parameter " + in.Name
	}
	return "authorization header"
}

func (c *checker) inject(path string, in *Inject) {
	if !c.oneOf(path+".manner", in.Manner, MannerHeader, MannerBearer, MannerBasic, MannerQuery, MannerSigV4) {
		return
	}
	unused := func(key, value string) {
		if value != "" {
			c.fail(path+"."+key, "has no meaning for manner "+in.Manner, "remove it")
		}
	}
	switch in.Manner {
	case MannerHeader:
		c.headerName(path+".name", in.Name)
	case MannerQuery:
		if in.Name == "" || !isHeaderText(in.Name) {
			c.fail(path+".name", fmt.Sprintf("%q is not the name of a query parameter", in.Name), "write its name, such as key")
		}
	default:
		unused("name", in.Name)
	}
	switch in.Manner {
	case MannerBasic:
		unused("format", in.Format)
		c.basic(path, in)
	case MannerSigV4:
		unused("format", in.Format)
		unused("username", in.Username)
		unused("password", in.Password)
		if c.d.AuthType != AuthAPIKey {
			c.fail(path+".manner", "sigv4 signs with an API key", "use auth_type "+string(AuthAPIKey))
		}
	default:
		unused("username", in.Username)
		unused("password", in.Password)
		c.template(path+".format", in.Format)
		if in.Format != "" && !strings.Contains(in.Format, "{credential") {
			c.fail(path+".format", "has no credential", "write "+CredentialTemplate+" where it goes")
		}
	}
	for i, entry := range in.HostURL {
		if !slices.Contains(c.d.HostURL, entry) {
			c.fail(path+"."+indexed("host_url", i, len(in.HostURL)), fmt.Sprintf("%q is not in the definition's host_url", entry), "spell it as it is there")
		}
	}
}

// basic checks the parts of HTTP Basic (RFC 7617 section 2).
func (c *checker) basic(path string, in *Inject) {
	c.template(path+".username", in.Username)
	c.template(path+".password", in.Password)
	if strings.Contains(in.Username, ":") {
		c.fail(path+".username", "has a colon (RFC 7617 section 2)", "put what follows the colon in the password")
	}
	if !strings.Contains(in.Username+in.Password, "{credential") {
		c.fail(path, "has no credential", "write "+CredentialTemplate+" as the username or the password")
	}
}

var templates = regexp.MustCompile(`\{[^{}]*\}`)

// template checks that a text holds known templates and is a header's value.
func (c *checker) template(path, text string) {
	if !isHeaderText(text) || !httpguts.ValidHeaderFieldValue(text) {
		c.fail(path, "has a character that no header value has", "write printable ASCII")
	}
	for _, t := range templates.FindAllString(text, -1) {
		if t != CredentialTemplate && t != FirstTemplate && t != SecondTemplate {
			c.fail(path, t+" is not a template", "write "+CredentialTemplate+", "+FirstTemplate+" or "+SecondTemplate)
		}
	}
}
