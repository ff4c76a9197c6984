// An authorization server for tests: the example server of zitadel/oidc over TLS on loopback.
//
// Usage: server '{"cert":PEM,"key":PEM,"redirects":[URI]}'. It prints one line of JSON, {"issuer":…}, when it serves, and
// ends when its standard input does.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var options struct {
		Cert, Key string
		Redirects []string // of the confidential client, beside the default
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &options); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair([]byte(options.Cert), []byte(options.Key))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "https://" + ln.Addr().String()
	storage.RegisterClients(
		storage.NativeClient("public", "http://127.0.0.1/callback"),
		storage.WebClient("basic", "basic+secret/%41 &=:", append(options.Redirects, "http://127.0.0.1:7999/callback")...),
		storage.DeviceClient("device", "device+secret"),
	)
	router := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), slog.New(slog.NewTextHandler(os.Stderr, nil)), true)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"issuer": issuer}); err != nil {
		return err
	}
	return http.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}}), router)
}
