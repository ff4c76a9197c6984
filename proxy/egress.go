package proxy

import (
	"fmt"
	"strings"

	"authsome/injector"
	"authsome/provider"
)

// Egress says which hosts may be reached without a credential. The zero value
// allows all of them.
type Egress struct {
	deny     bool
	hosts    map[string]bool          // any port
	targets  map[injector.Target]bool // one port
	suffixes map[string]bool          // *.suffix, any port
}

// NewEgress builds a policy. With deny, only the hosts in allow are reachable:
// "host", "host:port" or "*.suffix".
func NewEgress(deny bool, allow []string) (Egress, error) {
	e := Egress{deny: deny, hosts: map[string]bool{}, targets: map[injector.Target]bool{}, suffixes: map[string]bool{}}
	for _, a := range allow {
		if suffix, ok := strings.CutPrefix(a, "*."); ok {
			host, err := provider.CanonicalHost(suffix)
			if err != nil {
				return Egress{}, fmt.Errorf("allow host %q: %w", a, err)
			}
			e.suffixes[host] = true
			continue
		}
		t, err := injector.ParseTarget(a, anyPort)
		if err != nil {
			return Egress{}, fmt.Errorf("allow host %q: %w", a, err)
		}
		if t.Port == anyPort && !strings.HasSuffix(a, ":65535") {
			e.hosts[t.Host] = true
			continue
		}
		e.targets[t] = true
	}
	return e, nil
}

// anyPort stands for a port that was not given.
const anyPort = 65535

func (e Egress) allows(t injector.Target) bool {
	return !e.deny || e.names(t)
}

// names reports whether the policy names a host.
func (e Egress) names(t injector.Target) bool {
	if e.hosts[t.Host] || e.targets[t] {
		return true
	}
	for rest, found := t.Host, true; found; {
		if _, rest, found = strings.Cut(rest, "."); found && e.suffixes[rest] {
			return true
		}
	}
	return false
}
