package ca

import (
	"context"
	"crypto/tls"
	"slices"
)

// TLSConfig returns the server side of an intercepted connection to host, which
// offers protos by ALPN. The leaf exists when it returns; errors are Leaf's.
//
// The configuration is pinned: a handshake that names another host fails with a
// *TargetMismatchError. One without a server name is let through, since clients
// send none for an address. The check runs on every ClientHello, also on one
// that resumes a session, where no certificate is asked for.
//
// The same configuration comes back for the same host and protocols, so that
// clients can resume: each has its own ticket keys, rotated daily, and a ticket
// for one host is worth nothing for another. Do not modify it.
func (a *Authority) TLSConfig(ctx context.Context, host string, protos ...string) (*tls.Config, error) {
	e, err := a.entry(ctx, host)
	if err != nil {
		return nil, err
	}
	for {
		have := e.configs.Load()
		if have != nil {
			for _, c := range *have {
				if slices.Equal(c.NextProtos, protos) {
					return c, nil
				}
			}
		}
		made := []*tls.Config{a.serverConfig(host, protos)}
		if have != nil {
			made = append(made, *have...)
		}
		if e.configs.CompareAndSwap(have, &made) {
			return made[0], nil
		}
	}
}

func (a *Authority) serverConfig(host string, protos []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: slices.Clone(protos),
		Time:       a.cfg.Clock,
		// The client is next to us: short first records would only cost it
		// system calls.
		DynamicRecordSizingDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName != "" && !sameHost(hello.ServerName, host) {
				return nil, &TargetMismatchError{Target: host, ServerName: hello.ServerName}
			}
			return nil, nil
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.Leaf(hello.Context(), host)
		},
	}
}
