package proxy

import (
	"net/http"

	"authsome/injector"
)

// servePlain forwards an absolute-form http:// request. It never gets a
// credential: anybody on the way could read it.
func (p *Proxy) servePlain(c *conn, w *h1Writer, r *http.Request) bool {
	if r.URL.Scheme != "http" {
		return p.answer(c, w, r, &Refusal{Code: CodeBadRequest, Hint: "use CONNECT for https"})
	}
	return p.forwardH1(c, w, r)
}

// bindPlain takes the target from the request line, which wins over Host
// (RFC 9112 section 3.2.2); the two naming different hosts is refused.
func (x *exchange) bindPlain() *Refusal {
	t, err := injector.ParseTarget(x.r.URL.Host, 80)
	if err != nil || x.r.URL.User != nil {
		return refuse(CodeBadRequest, err)
	}
	if x.r.Host != "" {
		host, err := injector.ParseTarget(x.r.Host, 80)
		if err != nil || host != t {
			return refuse(CodeTargetMismatch, err)
		}
	}
	x.target, x.c.target = t, t
	return nil
}
