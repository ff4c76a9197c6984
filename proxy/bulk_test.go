package proxy_test

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A large body arrives whole however its origin hands it out: pieces of every
// size, pauses, and an end that comes together with the last of it.
func TestLargeBodiesInPieces(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	body := make([]byte, size)
	random := rand.NewChaCha8([32]byte{7})
	random.Read(body)
	for _, framing := range []string{"length", "chunked", "close"} {
		for _, h2 := range []bool{false, true} {
			sizes := rand.New(rand.NewPCG(1, 2))
			r := newRig(t, h2, func(w http.ResponseWriter, _ *http.Request) {
				switch framing {
				case "length":
					w.Header().Set("Content-Length", strconv.Itoa(size))
				case "close":
					w.Header().Set("Connection", "close")
				}
				for rest := body; len(rest) > 0; {
					n := min(len(rest), 1+sizes.IntN(200<<10))
					w.Write(rest[:n])
					if rest = rest[n:]; sizes.IntN(4) == 0 {
						w.(http.Flusher).Flush()
						time.Sleep(time.Duration(sizes.IntN(3)) * time.Millisecond)
					}
				}
			})
			for _, clientH2 := range []bool{false, true} {
				resp, err := r.client(clientH2).Get("https://" + apiHost + "/")
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.New()
				n, err := io.Copy(sum, resp.Body)
				resp.Body.Close()
				if err != nil || n != size || [32]byte(sum.Sum(nil)) != sha256.Sum256(body) {
					t.Errorf("%s, origin h2 %v, client h2 %v: %d bytes, %v, or not the same", framing, h2, clientH2, n, err)
				}
			}
		}
	}
}
