package main

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// serveH2 serves the same paths over HTTP/2, to clients that offer it.
func serveH2(l net.Listener, leaf tls.Certificate) {
	mux := http.NewServeMux()
	mux.HandleFunc("/1k", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(kilobyte)))
		w.Write(kilobyte)
	})
	mux.HandleFunc("/100m", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(big))
		for left := big; left > 0; {
			n, err := w.Write(zeros[:min(left, len(zeros))])
			if err != nil {
				return
			}
			left -= n
		}
	})
	mux.HandleFunc("/sse", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range eventCount {
			io.WriteString(w, "data: "+strconv.FormatInt(time.Now().UnixNano(), 10)+"\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(eventGap)
		}
	})
	mux.HandleFunc("/sink", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != rig.Authorization {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("X-Origin-Protocol", r.Proto)
			mux.ServeHTTP(w, r)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{leaf}, CurvePreferences: rig.Curves},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 1000, MaxReceiveBufferPerStream: 4 << 20, MaxReceiveBufferPerConnection: 16 << 20},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	server.ServeTLS(l, "", "")
}
