package ca

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"time"
)

// A root's life is cut in sixths. For the first four it is alone. Then its
// successor is published beside it, so that every client that reads its trust
// files from there on knows both; for the last one the successor signs.
const (
	publishBefore = 3 // the successor is published at 1/3 of the life before the end
	switchBefore  = 6 // and takes over at 1/6
)

// roots are the published roots besides the one that signs.
type roots struct {
	next    *generation         // made ahead, so that clients learn it before it signs
	retired []*x509.Certificate // signed once; leaves and open connections of theirs live on
}

func (r roots) others() []*x509.Certificate {
	var out []*x509.Certificate
	if r.next != nil {
		out = append(out, r.next.anchor)
	}
	return append(out, r.retired...)
}

// dropExpired forgets retired roots that have ended.
func (r roots) dropExpired(now time.Time) roots {
	r.retired = slices.DeleteFunc(slices.Clone(r.retired), func(c *x509.Certificate) bool {
		return !now.Before(c.NotAfter)
	})
	return r
}

// Renew does what the time calls for: it publishes a successor of a root that
// nears its end, lets a published successor take over, and drops roots that
// have ended. It reports whether the published roots changed, after which the
// clients' trust files must be written again. Open connections are not touched.
//
// It is cheap when there is nothing to do. Call it at least once in a sixth of
// the root's lifetime; hourly is plenty for the default.
func (a *Authority) Renew(ctx context.Context) (changed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.enrolled {
		return a.renewEnrolment(ctx)
	}
	current, r := a.current.Load(), a.roots
	now := a.cfg.Clock()
	if due(current, now, publishBefore) && r.next == nil {
		if r.next, err = a.generate(ctx); err != nil {
			return false, err
		}
	}
	if due(current, now, switchBefore) {
		r.retired = append([]*x509.Certificate{current.anchor}, r.retired...)
		current, r.next = r.next, nil
	}
	r = r.dropExpired(now)
	if current == a.current.Load() && r.next == a.roots.next && len(r.retired) == len(a.roots.retired) {
		return false, nil
	}
	return true, a.replace(current, r)
}

// due reports whether less than 1/part of g's life is left.
func due(g *generation, now time.Time, part time.Duration) bool {
	life := g.signer.NotAfter.Sub(g.signer.NotBefore)
	if g.signer == g.anchor { // a root of ours, which is younger than it says
		life -= backdate
	}
	return g.signer.NotAfter.Sub(now) <= life/part
}

// Permit changes what leaves may name, to exactly these hosts and addresses.
//
// A root that covers them stays. Otherwise a new one is made and signs at once;
// clients must be given the new trust files (changed), and those that have only
// the old root reject us until then. The old root stays published.
func (a *Authority) Permit(ctx context.Context, dns []string, ips []net.IP) (changed bool, err error) {
	names, err := newConstraints(dns, ips)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.names.Load()
	a.names.Store(&names)
	if changed, err = a.cover(ctx); err != nil {
		a.names.Store(before)
		return false, err
	}
	a.current.Load().cache.retain(names.permits)
	return changed, nil
}

// cover replaces the root unless its constraints cover the permitted names.
// The caller holds a.mu.
func (a *Authority) cover(ctx context.Context) (changed bool, err error) {
	names := *a.names.Load()
	if a.enrolled { // the fleet's authority decides on the constraints
		return false, nil
	}
	if a.current.Load().limit.covers(names) {
		if a.roots.next == nil || a.roots.next.limit.covers(names) {
			return false, nil
		}
		// The successor was made for less; Renew makes another one.
		r := a.roots
		r.retired = append([]*x509.Certificate{r.next.anchor}, r.retired...)
		r.next = nil
		return true, a.replace(a.current.Load(), r)
	}
	return true, a.rotate(ctx, false)
}

// Rotate makes a new root that signs at once, for when the old one's key may
// have leaked (distrust: it is no longer published) or when a person wants it.
// The clients' trust files must be written again.
func (a *Authority) Rotate(ctx context.Context, distrust bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rotate(ctx, distrust)
}

func (a *Authority) rotate(ctx context.Context, distrust bool) error {
	g, err := a.generate(ctx)
	if err != nil {
		return err
	}
	var r roots
	if !distrust {
		r.retired = append(append(r.retired, a.current.Load().anchor), a.roots.others()...)
	}
	return a.replace(g, r.dropExpired(a.cfg.Clock()))
}

// replace makes current sign and publishes r beside it, on disk first: a root
// that clients were told of must survive a crash. The caller holds a.mu.
func (a *Authority) replace(current *generation, r roots) error {
	if a.dir != "" {
		if err := saveRoots(a.dir, current, r); err != nil {
			return err
		}
	}
	a.roots = r
	if a.current.Swap(current) != current {
		a.cfg.Logger.Info("new authority signs", "subject", current.signer.Subject.CommonName,
			"ends", current.signer.NotAfter.Format(time.RFC3339))
	}
	return nil
}
