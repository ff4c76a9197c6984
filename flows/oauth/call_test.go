package oauth_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authsome/flows/oauth"
)

func TestHugeAnswer(t *testing.T) {
	plain := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"access_token":"`)
		for range 10 << 10 {
			if _, err := w.Write(bytes.Repeat([]byte("a"), 1<<10)); err != nil {
				return // the client hung up, as it should
			}
		}
		fmt.Fprint(w, `"}`)
	}
	zipped := func(w http.ResponseWriter, r *http.Request) { // 10 MB in 10 kB
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		z.Write(bytes.Repeat([]byte(" "), 10<<20))
	}
	for name, handler := range map[string]http.HandlerFunc{"plain": plain, "compressed": zipped} {
		t.Run(name, func(t *testing.T) {
			_, err := online(t, handler).Refresh(t.Context(), held)
			e := failureOf(t, err, oauth.ErrBadResponse)
			if !strings.Contains(e.Description, "larger than") {
				t.Errorf("got %v", e)
			}
		})
	}
}

// An answer within the limit costs little to refuse, whatever it is made of.
func TestCostlyAnswers(t *testing.T) {
	var tokens strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&tokens, `"token%d":"secret-%d",`, i, i)
	}
	for name, body := range map[string]string{
		"many tokens":  `{` + tokens.String() + `"error":"x","error_description":"secret-29999 said"}`,
		"long message": `{"error":"x","error_description":"` + strings.Repeat("%25", 300_000) + `"}`,
		"many scopes":  `{"access_token":"a","refresh_token":{},"scope":"` + strings.Repeat("x y ", 200_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := offline(400, "application/json", body).Refresh(t.Context(), held)
			checkWithout(t, err, "secret-29999")
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestSlowDrip(t *testing.T) {
	c := online(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	c.CallTimeout = 200 * time.Millisecond
	start := time.Now()
	_, err := c.Refresh(t.Context(), held)
	e := failureOf(t, err, oauth.ErrTimeout)
	if !e.Retryable || !e.AnswerLost {
		t.Errorf("got %+v, want retryable with the answer lost", e)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	checkText(t, err)
}

// A redirect is an error wherever it leads, and nothing follows it.
func TestRedirects(t *testing.T) {
	var visits atomic.Int32
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits.Add(1)
		fmt.Fprint(w, `{"access_token":"stolen"}`)
	}))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, target := range []string{elsewhere.URL, "/token2", "http://127.0.0.1:1/"} {
			c := online(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token2" {
					visits.Add(1)
				}
				http.Redirect(w, r, target, status)
			})
			_, err := c.Refresh(t.Context(), held)
			if e := failureOf(t, err, oauth.ErrBadResponse); e.Status != status || e.Retryable {
				t.Errorf("got %+v", e)
			}
			checkText(t, err)
			checkText(t, c.Revoke(t.Context(), held))
			_, err = c.Discover(t.Context())
			checkText(t, err)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestOnlyHTTPS(t *testing.T) {
	for _, test := range []struct {
		url string
		ok  bool
	}{
		{"https://a.example.test/token", true},
		{"http://127.0.0.1:8/token", true},
		{"http://[::1]:8/token", true},
		{"http://localhost/token", true},
		{"http://a.example.test/token", false},
		{"http://127.0.0.1.example.test/token", false},
		{"http://localhost.example.test/token", false},
		{"http://0.0.0.0/token", false},
		{"http://10.0.0.1/token", false},
		{"ftp://a.example.test/", false},
		{"https://user:pass@a.example.test/", false},
		{"https:///token", false},
		{"/token", false},
		{"", false},
		{"https://a b/", false},
	} {
		c := offline(200, "application/json", `{"access_token":"a"}`)
		c.OAuth.TokenURL, c.OAuth.RevocationURL, c.OAuth.DeviceAuthorizationURL = test.url, test.url, test.url
		_, err := c.Refresh(t.Context(), held)
		if test.ok {
			if err != nil {
				t.Errorf("%s: %v", test.url, err)
			}
			continue
		}
		failureOf(t, err, oauth.ErrInsecureURL)
		if test.url != "" {
			failureOf(t, c.Revoke(t.Context(), held), oauth.ErrInsecureURL)
		}
	}
}

func TestBrokenConnections(t *testing.T) {
	hangUp := func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	t.Run("hung up after the request", func(t *testing.T) {
		_, err := online(t, hangUp).Refresh(t.Context(), held)
		if e := failureOf(t, err, oauth.ErrUnreachable); !e.Retryable || !e.AnswerLost {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		c := online(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"access_token":`)
		})
		_, err := c.Refresh(t.Context(), held)
		if e := failureOf(t, err, oauth.ErrUnreachable); !e.AnswerLost {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := scripted(nil)
		c.HTTP = nil
		c.OAuth.TokenURL = "http://" + ln.Addr().String() + "/token"
		ln.Close()
		_, err = c.Refresh(t.Context(), held)
		e := failureOf(t, err, oauth.ErrUnreachable)
		if !e.Retryable || e.AnswerLost || !strings.Contains(e.Description, "refused") {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("certificate of nobody", func(t *testing.T) {
		c := online(t, hangUp)
		c.HTTP = &http.Client{Transport: &http.Transport{}}
		_, err := c.Refresh(t.Context(), held)
		e := failureOf(t, err, oauth.ErrUnreachable)
		if e.AnswerLost || !strings.Contains(e.Description, "certificate") || !errors.Is(err, oauth.ErrUntrusted) {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("this machine", func(t *testing.T) {
		c := scripted(func(*http.Request) (*http.Response, error) {
			return nil, &oauth.LocalError{Err: errors.New("no roots here"), Next: "mend them"}
		})
		_, err := c.Refresh(t.Context(), held)
		var local *oauth.LocalError
		e := failureOf(t, err, oauth.ErrUnreachable)
		if e.Retryable || e.AnswerLost || e.Description != "no roots here" || !errors.As(err, &local) || local.Next != "mend them" {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("no such host", func(t *testing.T) {
		c := scripted(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Name: "auth.example.test", Err: "no such host"}}
		})
		_, err := c.Refresh(t.Context(), held)
		if e := failureOf(t, err, oauth.ErrUnreachable); !strings.Contains(e.Description, "auth.example.test") {
			t.Errorf("got %+v", e)
		}
	})
}

func TestCancelledCall(t *testing.T) {
	c := scripted(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := c.Refresh(ctx, held)
	if e := failureOf(t, err, oauth.ErrCancelled); e.Retryable || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v", e)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = c.Refresh(ctx, held)
	if failureOf(t, err, oauth.ErrTimeout); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "soon": 0, "999999999999": time.Hour, "99999999": time.Hour,
		now.Add(90 * time.Second).Format(http.TimeFormat):  90 * time.Second,
		now.Add(-90 * time.Second).Format(http.TimeFormat): 0,
		now.Add(48 * time.Hour).Format(http.TimeFormat):    time.Hour,
	} {
		c := scripted(func(*http.Request) (*http.Response, error) {
			res := response(503, "application/json", `{}`)
			res.Header.Set("Retry-After", value)
			return res, nil
		})
		_, err := c.Refresh(t.Context(), held)
		if e := failureOf(t, err, oauth.ErrUnavailable); e.RetryAfter != want {
			t.Errorf("%q: got %v, want %v", value, e.RetryAfter, want)
		}
	}
}
