package proxy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// failing is a body that ends with an error.
type failing struct{ left int }

func (f *failing) Read(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("the client's disk is broken")
	}
	return len(p), nil
}

// A body whose hash a signature covers is read before the request is sent, within
// bounds, whatever its framing. What it took is given back however it ends.
func TestSignedBodies(t *testing.T) {
	t.Parallel()
	const id, key = "AKIATEST", "the key"
	for _, originH2 := range []bool{false, true} {
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			sum := sha256.New()
			n, err := io.Copy(sum, req.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			at, _ := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
			again, _ := http.NewRequest(req.Method, "https://"+req.Host+req.RequestURI, nil)
			again.Header = http.Header{"Content-Type": req.Header["Content-Type"]}
			v4.NewSigner().SignHTTP(req.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: key}, again, hex.EncodeToString(sum.Sum(nil)), "bedrock", "eu-west-1", at)
			if got, want := req.Header.Get("Authorization"), again.Header.Get("Authorization"); got != want {
				t.Errorf("%d bytes arrived with %s, want %s", n, got, want)
			}
			fmt.Fprint(w, n, req.ContentLength)
		})
		r.source.set(id+":"+key, nil)
		r.injectRoute(provider.Inject{Manner: provider.MannerSigV4})
		for _, clientH2 := range []bool{false, true} {
			ask := func(body io.Reader, length int64) (status int, code, answer string) {
				req, _ := http.NewRequest(http.MethodPost, "https://"+apiHost+"/model/a%3Ab/invoke?x=1", body)
				req.ContentLength = length
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAFAKE/20200101/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="+strings.Repeat("0", 64))
				resp, err := r.client(clientH2).Do(req)
				if err != nil {
					return 0, err.Error(), ""
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, resp.Header.Get("Authsome-Error"), string(b)
			}
			for _, size := range []int64{0, 1, 100 << 10, 3 << 20} {
				for _, chunked := range []bool{false, true} {
					length := size
					if chunked {
						length = -1
					}
					want := fmt.Sprint(size, size)
					if status, code, got := ask(io.LimitReader(zeros{}, size), length); status != http.StatusOK || got != want {
						t.Errorf("origin h2=%v, client h2=%v, %d bytes, chunked=%v: got %d %s %q, want %q", originH2, clientH2, size, chunked, status, code, got, want)
					}
				}
			}
			if status, code, got := ask(io.LimitReader(zeros{}, injector.MaxKept+1), injector.MaxKept+1); status != http.StatusBadGateway || code != "injection_failed" || !strings.Contains(got, "too large") {
				t.Errorf("client h2=%v: too large: got %d %s %s", clientH2, status, code, got)
			}
			if status, _, _ := ask(&failing{left: 1 << 20}, 2<<20); status != 0 && status != http.StatusBadRequest {
				t.Errorf("client h2=%v: a body that breaks off: got %d", clientH2, status)
			}
			r.proxy.KeepBytes(proxy.MaxKeptBytes)
			if status, code, got := ask(strings.NewReader("{}"), 2); status != http.StatusBadGateway || code != "injection_failed" || !strings.Contains(got, "try again") {
				t.Errorf("client h2=%v: no memory: got %d %s %s", clientH2, status, code, got)
			}
			r.proxy.KeepBytes(-proxy.MaxKeptBytes)
			eventually(t, "the memory is given back", func() bool { return r.proxy.KeptBytes() == 0 })
		}
		r.noSecret()
	}
}
