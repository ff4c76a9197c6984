package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ambiguous is one request of the corpus. HOST stands for the host, TARGET for
// what comes before the path: nothing inside a tunnel, http://host in front.
type ambiguous struct {
	name    string
	request string
	want    int // status; 0 for an end without an answer, or any refusal: see refusedSomehow
}

// refusedSomehow stands for a 4xx, a 5xx of ours or a cut connection: what is
// wrong may only show when the head has been sent on.
const refusedSomehow = 0

// smuggled is what the corpus tries to get past the proxy.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"

func chunkedWith(body string) string {
	return "POST TARGET/ HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func field(line string) string {
	return "POST TARGET/ HTTP/1.1\r\nHost: HOST\r\n" + line + "\r\n\r\n"
}

var corpus = []ambiguous{
	// PITFALLS 25.
	{"TE and CL", field("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"CL and TE", field("Transfer-Encoding: chunked\r\nContent-Length: 5") + "0\r\n\r\n" + smuggled, 400},
	{"TE twice", field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE identity and chunked", field("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE list", field("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE chunked, then another", field("Transfer-Encoding: chunked, identity") + "0\r\n\r\n" + smuggled, 400},
	{"TE chunked twice in a list", field("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE that is none", field("Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE empty", field("Transfer-Encoding:") + smuggled, 400},
	{"TE empty with CL", field("Transfer-Encoding:\r\nContent-Length: 0") + smuggled, 400},
	{"TE quoted", field(`Transfer-Encoding: "chunked"`) + "0\r\n\r\n" + smuggled, 400},
	{"TE with a parameter", field("Transfer-Encoding: chunked;q=1") + "0\r\n\r\n" + smuggled, 400},
	{"TE with a vertical tab", field("Transfer-Encoding: \x0bchunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE folded", field("Transfer-Encoding:\r\n chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE with a space before the colon", field("Transfer-Encoding : chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE after a tab", field("\tTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"TE in HTTP/1.0", "POST TARGET/ HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"TE in upper case", field("TRANSFER-ENCODING: CHUNKED") + "0\r\n\r\n", 200},
	{"CL twice, different", field("Content-Length: 0\r\nContent-Length: 44") + smuggled, 400},
	{"CL twice, alike", field("Content-Length: 0\r\nContent-Length: 0"), 400},
	{"CL list", field("Content-Length: 0, 44") + smuggled, 400},
	{"CL list, alike", field("Content-Length: 0, 0"), 400},
	{"CL with a plus", field("Content-Length: +44") + smuggled, 400},
	{"CL negative", field("Content-Length: -1") + smuggled, 400},
	{"CL minus zero", field("Content-Length: -0") + smuggled, 400},
	{"CL empty", field("Content-Length:") + smuggled, 400},
	{"CL hexadecimal", field("Content-Length: 0x2c") + smuggled, 400},
	{"CL with an underscore", field("Content-Length: 4_4") + smuggled, 400},
	{"CL with a space in it", field("Content-Length: 4 4") + smuggled, 400},
	{"CL as a fraction", field("Content-Length: 44.0") + smuggled, 400},
	{"CL in other digits", field("Content-Length: ٤٤") + smuggled, 400},
	{"CL past 64 bits", field("Content-Length: 18446744073709551660") + smuggled, 400},
	{"CL past 63 bits", field("Content-Length: 9223372036854775808") + smuggled, 400},
	{"CL folded", field("Content-Length:\r\n 0") + smuggled, 400},
	{"CL with a space before the colon", field("Content-Length : 44") + smuggled, 400},
	{"CL with leading zeros", field("Content-Length: 0000"), 200},
	{"CL in spaces", field("Content-Length: \t 0 \t"), 200},

	// Lines.
	{"bare LF everywhere", "GET TARGET/ HTTP/1.1\nHost: HOST\n\n" + smuggled, 400},
	{"bare LF after the request line", "GET TARGET/ HTTP/1.1\nHost: HOST\r\n\r\n", 400},
	{"bare LF within a field", field("X: a\nTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"bare LF at the end", "GET TARGET/ HTTP/1.1\r\nHost: HOST\r\n\n" + smuggled, 400},
	{"bare CR within a field", field("X: a\rTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"bare CR before the name", field("\rTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, 400},
	{"bare CR at the end", "GET TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\r\n\r\n", 400},
	{"CR CR LF", field("X: a\r\r\nContent-Length: 44") + smuggled, 400},
	{"folded field", field("X: a\r\n b"), 400},
	{"folded with a tab", field("X: a\r\n\tTransfer-Encoding: chunked"), 400},
	{"folded first field", "GET TARGET/ HTTP/1.1\r\n X: a\r\nHost: HOST\r\n\r\n", 400},
	{"folded empty line", field("X: a\r\n \r\nContent-Length: 44") + smuggled, 400},
	{"space before the colon", field("X-A : b"), 400},
	{"tab before the colon", field("X-A\t: b"), 400},
	{"no colon", field("X-A"), 400},
	{"no name", field(": b"), 400},
	{"space in a name", field("X A: b"), 400},
	{"NUL in a value", field("X: a\x00b"), 400},
	{"NUL in a name", field("X\x00: b"), 400},
	{"control character in a value", field("X: a\x01b"), 400},
	{"DEL in a value", field("X: a\x7fb"), 400},
	{"bytes past ASCII in a name", field("X-é: b"), 400},
	{"bytes past ASCII in a value", field("X: é"), 200},
	{"brackets in a name", field("X[a]: b"), 400},
	{"empty line first", "\r\nGET TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 200},

	// Request lines.
	{"two spaces", "GET  TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"space in the target", "GET TARGET/a b HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"space at the end", "GET TARGET/ HTTP/1.1 \r\nHost: HOST\r\n\r\n", 400},
	{"space first", " GET TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"tabs for spaces", "GET\tTARGET/\tHTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"control character in the target", "GET TARGET/a\x01 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"bytes past ASCII in the target", "GET TARGET/é HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"fragment", "GET TARGET/#x HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"bad escape", "GET TARGET/%zz HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/0.9", "GET TARGET/\r\n\r\n", 400},
	{"HTTP/0.9 with a version", "GET TARGET/ HTTP/0.9\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/1.2", "GET TARGET/ HTTP/1.2\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/2.0 in text", "GET TARGET/ HTTP/2.0\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/1.10", "GET TARGET/ HTTP/1.10\r\nHost: HOST\r\n\r\n", 400},
	{"http/1.1 in lower case", "GET TARGET/ http/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/1,1", "GET TARGET/ HTTP/1,1\r\nHost: HOST\r\n\r\n", 400},
	{"no method", " TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"method that is no token", "GE(T TARGET/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},

	// Who is asked.
	{"two Hosts", field("Host: HOST"), 400},
	{"two Hosts, different", field("Host: evil.test"), 400},
	{"Host with a space before the colon", "GET TARGET/ HTTP/1.1\r\nHost : HOST\r\n\r\n", 400},
	{"no Host", "GET TARGET/ HTTP/1.1\r\nX: y\r\n\r\n", 400},
	{"another Host", "GET TARGET/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421},
	{"a list of Hosts", "GET TARGET/ HTTP/1.1\r\nHost: HOST, evil.test\r\n\r\n", 421},
	{"Host with userinfo", "GET TARGET/ HTTP/1.1\r\nHost: evil.test@HOST\r\n\r\n", 421},
	{"Host with a path", "GET TARGET/ HTTP/1.1\r\nHost: HOST/evil\r\n\r\n", 421},
	{"absolute-form to another host", "GET http://evil.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 421},
	{"absolute-form with another Host", "GET http://HOST/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421},
	{"opaque target", "GET http:HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"a word for a target", "GET smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
	{"empty Host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", refusedSomehow},

	// Chunks.
	{"well-formed chunks", chunkedWith("3\r\nabc\r\n0\r\n\r\n"), 200},
	{"leading zeros", chunkedWith("0003\r\nabc\r\n000\r\n\r\n"), 200},
	{"an extension", chunkedWith("3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n"), 200},
	{"an extension without a name", chunkedWith("3;\r\nabc\r\n0;\r\n\r\n"), 200},
	{"a space after the size", chunkedWith("3 \r\nabc\r\n0 \r\n\r\n"), 200},
	{"a line end in a quoted extension", chunkedWith("3;a=\"\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"a long extension", chunkedWith("3;a=" + strings.Repeat("b", 5000) + "\r\nabc\r\n0\r\n\r\n"), refusedSomehow},
	{"more extensions than data", chunkedWith(strings.Repeat("1;a="+strings.Repeat("b", 1000)+"\r\nx\r\n", 40) + "0\r\n\r\n"), refusedSomehow},
	{"bare LF after the size", chunkedWith("3\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"bare LF after the data", chunkedWith("3\r\nabc\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"bare CR after the size", chunkedWith("3\rabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"bare LF in an extension", chunkedWith("3;a\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"bare CR in an extension", chunkedWith("3;a\rb\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size with 0x", chunkedWith("0x3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size with a plus", chunkedWith("+3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size with a minus", chunkedWith("-3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size with an underscore", chunkedWith("0_3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size after a space", chunkedWith(" 3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"no size", chunkedWith("\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"an extension for a size", chunkedWith(";3\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"size past 64 bits", chunkedWith("10000000000000003\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"NUL in the size", chunkedWith("3\x00\r\nabc\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"more data than the size", chunkedWith("3\r\nabcd\r\n0\r\n\r\n" + smuggled), refusedSomehow},
	{"end with bare LF", chunkedWith("0\n\n" + smuggled), refusedSomehow},
	{"trailer end with bare LF", chunkedWith("0\r\n\n" + smuggled), refusedSomehow},
	{"trailer with bare LF", chunkedWith("0\r\nX: a\n\r\n" + smuggled), refusedSomehow},
	{"trailer folded", chunkedWith("0\r\nX: a\r\n b\r\n\r\n" + smuggled), refusedSomehow},
	{"trailer with Content-Length", chunkedWith("0\r\nContent-Length: 44\r\n\r\n" + smuggled), refusedSomehow},
	{"trailer with Transfer-Encoding", chunkedWith("0\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled), refusedSomehow},
	{"trailer with a space before the colon", chunkedWith("0\r\nX : a\r\n\r\n" + smuggled), refusedSomehow},

	// Hop by hop.
	{"Connection names framing", field("Connection: transfer-encoding, content-length\r\nTransfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", 200},
	{"Connection names Content-Length", field("Connection: Content-Length\r\nContent-Length: 3") + "abc", 200},
	{"Connection names Host", field("Connection: host"), 200},
	{"Connection names what is injected", field("Connection: authorization\r\nAuthorization: mine"), 200},
	{"Connection names Trailer", field("Connection: trailer\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum") + "0\r\nX-Sum: 1\r\n\r\n", 200},
	{"trailer that would be a credential", field("Transfer-Encoding: chunked\r\nTrailer: Authorization, X-Sum") +
		"0\r\nAuthorization: mine\r\nX-Sum: 1\r\n\r\n", 200},
	{"trailer that nobody announced", chunkedWith("0\r\nAuthorization: mine\r\nX-Forwarded-For: me\r\n\r\n"), 200},
	{"Connection with odd tokens", field("Connection: ,, \"a\", b:c, close/../x"), 200},
	{"Expect of something else", field("Expect: 200-maybe\r\nContent-Length: 3") + "abc", 200},
	{"body of GET", "GET TARGET/ HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc", 200},
}

// TestSmuggling sends the corpus through a tunnel and to the front. Whatever
// the proxy makes of a request, the origin gets one that everybody reads alike,
// or none.
func TestSmuggling(t *testing.T) {
	t.Run("tunnel", func(t *testing.T) {
		origin := newRawOrigin(t, echo, "http/1.1")
		r := newRig(t, false, whoami, origin.use)
		for _, tt := range corpus {
			t.Run(tt.name, func(t *testing.T) {
				c, br := r.tls(apiHost + ":443")
				io.WriteString(c, fill(tt.request, ""))
				sent := fmt.Sprintf("GET /sentinel HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", apiHost)
				io.WriteString(c, sent)
				checkUnambiguous(t, tt, answers(t, br, "POST"), origin.take(), true)
			})
		}
	})
	t.Run("front", func(t *testing.T) {
		origin := newRawOrigin(t, echo)
		r := newRig(t, false, whoami, origin.use)
		for _, tt := range corpus {
			if tt.name == "HTTP/2 preface" || tt.name == "empty Host" {
				continue // no TARGET in them
			}
			t.Run(tt.name, func(t *testing.T) {
				c := r.dial()
				request := fill(tt.request, "http://"+apiHost)
				line := strings.Index(request, "\n") + 1
				if line == 2 { // an empty line
					line += strings.Index(request[line:], "\n") + 1
				}
				io.WriteString(c, request[:line]+r.authHeader()+request[line:])
				io.WriteString(c, fmt.Sprintf("GET http://%s/sentinel HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", apiHost, apiHost, r.authHeader()))
				checkUnambiguous(t, tt, answers(t, bufioReader(c), "POST"), origin.take(), false)
			})
		}
	})
}

func fill(request, target string) string {
	return strings.NewReplacer("HOST", apiHost, "TARGET", target).Replace(request)
}

// checkUnambiguous looks at both ends of one request of the corpus, which a
// sentinel followed.
func checkUnambiguous(t *testing.T, tt ambiguous, got []answer, streams []string, injects bool) {
	t.Helper()
	var lines []string
	for _, a := range got {
		lines = append(lines, fmt.Sprint(a.status, " ", a.header.Get("X-Line"), a.header.Get("Authsome-Error")))
	}
	switch {
	case tt.want == refusedSomehow:
		if len(got) > 0 && got[0].status < 400 {
			t.Errorf("got %q, want a refusal", lines)
		}
	case len(got) == 0 || got[0].status != tt.want:
		t.Errorf("got %q, want %d", lines, tt.want)
	}
	// After a malformed head nothing that follows can be trusted to be one.
	if len(got) > 0 && (tt.want == 400 || tt.want == refusedSomehow) && len(got) > 1 && got[0].status != http.StatusMisdirectedRequest {
		t.Errorf("the connection was used on after a refusal: %q", lines)
	}
	for _, a := range got {
		if strings.Contains(a.header.Get("X-Line"), "smuggled") {
			t.Errorf("the smuggled request was answered: %q", lines)
		}
	}
	for _, stream := range streams {
		counts, strict := requestsIn(stream), parser{}.count(stream)
		for name, n := range counts {
			if n != strict {
				t.Errorf("the origin read what some find %d requests in, and others %d (%s): %q", strict, n, name, stream)
			}
		}
		if strict > 2 || strict == 2 && tt.want != 200 && tt.want != 421 {
			t.Errorf("the origin read %d requests: %q", strict, stream)
		}
		for _, line := range strings.Split(stream, "\r\n") {
			if strings.HasPrefix(line, "GET /smuggled ") && tt.want >= 400 {
				t.Errorf("the origin read the smuggled request: %q", stream)
			}
			if strings.EqualFold(line, "Authorization: mine") && injects {
				t.Errorf("the origin read the client's own credential: %q", stream)
			}
		}
		heads := strings.Count(stream, " HTTP/1.1\r\n")
		if got := strings.Count(stream, canary); injects && got != heads || !injects && got != 0 {
			t.Errorf("the origin read the credential %d times in %d requests: %q", got, heads, stream)
		}
		if strings.Contains(stream, proxyToken) || strings.Contains(stream, "Proxy-Authorization") {
			t.Errorf("the origin read the proxy's token: %q", stream)
		}
	}
}
