package oauthtest

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// maxSteps bounds a walk through pages; a login has about ten.
const maxSteps = 30

// Browser walks through a server's pages: it follows redirects, keeps cookies, and submits the first
// form of each page with what its fields hold, so without scripts and without looking.
type Browser struct {
	client *http.Client
	// Fill gives the values that a person would type, by field name.
	Fill map[string]string
}

// NewBrowser gives a browser with no cookies that trusts the server.
func NewBrowser(t testing.TB, s *Server, fill map[string]string) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := s.Client(t)
	client.Jar = jar
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Browser{client: client, Fill: fill}
}

// Walk starts at a URL and goes on until a redirect or a form would leave for a URL that begins with
// stop, which is returned and not visited, or until a page has no form, whose text is returned.
func (b *Browser) Walk(start, stop string) (stopped, text string, err error) {
	req, err := http.NewRequest(http.MethodGet, start, nil)
	if err != nil {
		return "", "", err
	}
	for range maxSteps {
		if stop != "" && strings.HasPrefix(req.URL.String(), stop) {
			return req.URL.String(), "", nil
		}
		next, text, err := b.step(req)
		if err != nil {
			return "", "", err
		}
		if next == nil {
			return "", text, nil
		}
		req = next
	}
	return "", "", fmt.Errorf("walk from %s: no end after %d pages", start, maxSteps)
}

// step visits a page and says where it leads; nil when nowhere.
func (b *Browser) step(req *http.Request) (next *http.Request, text string, err error) {
	res, err := b.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if location, err := res.Location(); err == nil {
		next, err := http.NewRequest(http.MethodGet, location.String(), nil)
		return next, "", err
	}
	page, err := html.Parse(res.Body)
	if err != nil {
		return nil, "", err
	}
	form := find(page, "form")
	if form == nil || res.StatusCode >= 400 {
		return nil, fmt.Sprintf("%s %s", res.Status, textOf(page)), nil
	}
	action, err := req.URL.Parse(attribute(form, "action"))
	if err != nil {
		return nil, "", err
	}
	values := url.Values{}
	b.collect(form, values)
	if !strings.EqualFold(attribute(form, "method"), http.MethodPost) {
		action.RawQuery = values.Encode()
		next, err := http.NewRequest(http.MethodGet, action.String(), nil)
		return next, "", err
	}
	next, err = http.NewRequest(http.MethodPost, action.String(), strings.NewReader(values.Encode()))
	if err == nil {
		next.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return next, "", err
}

// collect gathers a form's fields. Of buttons that have a name only the first counts, as when a person
// presses Enter.
func (b *Browser) collect(n *html.Node, values url.Values) {
	name := attribute(n, "name")
	field := n.Type == html.ElementNode && (n.Data == "input" || n.Data == "button") && name != ""
	if field && !(n.Data == "button" && values.Has(name)) {
		values.Set(name, attribute(n, "value"))
		if typed, ok := b.Fill[name]; ok {
			values.Set(name, typed)
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		b.collect(child, values)
	}
}

func find(n *html.Node, element string) *html.Node {
	if n.Type == html.ElementNode && n.Data == element {
		return n
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		if found := find(child, element); found != nil {
			return found
		}
	}
	return nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	if n.Type == html.TextNode {
		return strings.TrimSpace(n.Data) + " "
	}
	if n.Data == "style" || n.Data == "script" {
		return ""
	}
	var b strings.Builder
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		b.WriteString(textOf(child))
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
