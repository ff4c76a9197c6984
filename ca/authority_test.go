package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/ca"
)

// PITFALL 38: a root that outlives its use and vouches for everything.
func TestRoot(t *testing.T) {
	now := time.Date(2031, 3, 5, 7, 9, 11, 0, time.UTC)
	a := newAuthority(t, func(c *ca.Config) {
		c.Clock = func() time.Time { return now }
		c.PermittedDNS = []string{"b.test", "api.a.test", "a.test", "b.test"}
	})
	root := rootsOf(t, a.RootPEM())[0]
	if got, want := root.PermittedDNSDomains, []string{"a.test", "b.test"}; !slices.Equal(got, want) {
		t.Errorf("permitted names: got %q, want %q", got, want)
	}
	if !root.PermittedDNSDomainsCritical {
		t.Error("name constraints are not critical")
	}
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"CA", root.IsCA, true},
		{"path length", root.MaxPathLen, 0},
		{"path length is zero", root.MaxPathLenZero, true},
		{"key usage", root.KeyUsage, x509.KeyUsageCertSign | x509.KeyUsageCRLSign},
		{"extended key usage", fmt.Sprint(root.ExtKeyUsage), fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})},
		{"curve", root.PublicKey.(*ecdsa.PublicKey).Curve, elliptic.P256()},
		{"not before", root.NotBefore, now.Add(-5 * time.Minute)},
		{"not after", root.NotAfter, now.Add(30 * 24 * time.Hour)},
		{"NotAfter", a.NotAfter(), root.NotAfter},
		{"subject key id", len(root.SubjectKeyId) >= 20, true},
	} {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

// PITFALL 37: the roots of two runs meet in one trust store.
func TestRootsOfTwoRunsDoNotCollide(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	ra, rb := rootsOf(t, a.RootPEM())[0], rootsOf(t, b.RootPEM())[0]
	if bytes.Equal(ra.RawSubject, rb.RawSubject) {
		t.Errorf("both roots are called %s", ra.Subject)
	}
	both := append(a.RootPEM(), b.RootPEM()...)
	for _, authority := range []*ca.Authority{a, b} {
		leaf, err := authority.Leaf(t.Context(), "api.example.test")
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(both, leaf.Leaf, "api.example.test", time.Now()); err != nil {
			t.Error(err)
		}
	}
}

func TestIPConstraints(t *testing.T) {
	const all4, all6 = "0.0.0.0/0", "::/0"
	for _, test := range []struct {
		name                string
		ips                 []net.IP
		permitted, excluded []string
	}{
		{"none", nil, nil, []string{all4, all6}},
		{"v4", ips("10.1.2.3"), []string{"10.1.2.3/32"}, []string{all6}},
		{"v6", ips("fd00::1"), []string{"fd00::1/128"}, []string{all4}},
		{"both", ips("fd00::1", "10.1.2.3"), []string{"10.1.2.3/32", "fd00::1/128"}, nil},
		{"mapped", ips("::ffff:10.1.2.3"), []string{"10.1.2.3/32"}, []string{all6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t, func(c *ca.Config) { c.PermittedIPs = test.ips })
			root := rootsOf(t, a.RootPEM())[0]
			if got := nets(root.PermittedIPRanges); !slices.Equal(got, test.permitted) {
				t.Errorf("permitted: got %q, want %q", got, test.permitted)
			}
			if got := nets(root.ExcludedIPRanges); !slices.Equal(got, test.excluded) {
				t.Errorf("excluded: got %q, want %q", got, test.excluded)
			}
		})
	}
}

func nets(in []*net.IPNet) []string {
	var out []string
	for _, n := range in {
		out = append(out, n.String())
	}
	return out
}

func TestNoNamesPermitNothing(t *testing.T) {
	a, err := ca.New(t.Context(), ca.Config{})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := a.ForgeLeaf("api.example.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(a.RootPEM(), forged.Leaf, "api.example.test", time.Now()); err == nil {
		t.Error("a root without permitted names vouches for a host")
	}
	if a.Permits("authsome.invalid") {
		t.Error("the name that stands for none is permitted")
	}
}

func TestNewRefusesNames(t *testing.T) {
	for _, name := range []string{"", "Example.test", "*.example.test", "example.test.", "exämple.test", "a b", "127.0.0.1", "a..b", ".test"} {
		if _, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{name}}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: got error %v, want one that names it", name, err)
		}
	}
	if _, err := ca.New(t.Context(), ca.Config{PermittedIPs: []net.IP{{1, 2, 3}}}); err == nil {
		t.Error("an address of three bytes is accepted")
	}
}

// hosts says which hosts an authority for example.test, 10.1.2.3 and fd00::1
// issues for. It seeds the fuzzer too.
var hosts = []struct {
	host string
	want bool
}{
	{"example.test", true},
	{"api.example.test", true},
	{"a.b.c.example.test", true},
	{"a_b.example.test", true},
	{"xn--bcher-kva.example.test", true},
	{"127.example.test", true},
	{strings.Repeat("a", 63) + ".example.test", true},
	{"10.1.2.3", true},
	{"fd00::1", true},

	{"", false},
	{"test", false},
	{"evilexample.test", false},
	{"example.test.evil", false},
	{"example.test.", false},
	{"EXAMPLE.test", false},
	{"*.example.test", false},
	{".example.test", false},
	{"a..example.test", false},
	{"-a.example.test", false},
	{"a-.example.test", false},
	{"a b.example.test", false},
	{"a\x00.example.test", false},
	{"a\n.example.test", false},
	{"bücher.example.test", false},
	{"user@example.test", false},
	{"example.test:443", false},
	{"example.test/", false},
	{strings.Repeat("a", 64) + ".example.test", false},
	{strings.Repeat("a.", 122) + "example.test", false},
	{"10.1.2.4", false},
	{"fd00::2", false},
	{"[fd00::1]", false},
	{"fd00:0::1", false},
	{"FD00::1", false},
	{"fd00::1%lo", false},
	{"::ffff:10.1.2.3", false},
	{"010.1.2.3", false},
	{"10.66051", false},
	{"0x0a010203", false},
	{"167838211", false},
	{"127.0.0.1", false},
}

func permissive(t testing.TB) *ca.Authority {
	return newAuthority(t, func(c *ca.Config) { c.PermittedIPs = ips("10.1.2.3", "fd00::1") })
}

func TestLeafHosts(t *testing.T) {
	a := permissive(t)
	for _, test := range hosts {
		checkHost(t, a, test.host, &test.want)
	}
}

// FuzzLeaf: whatever the host, a leaf is either refused before it is minted, or
// names that host alone and verifies for it.
func FuzzLeaf(f *testing.F) {
	for _, test := range hosts {
		f.Add(test.host)
	}
	a := permissive(f)
	f.Fuzz(func(t *testing.T, host string) { checkHost(t, a, host, nil) })
}

func checkHost(t *testing.T, a *ca.Authority, host string, want *bool) {
	t.Helper()
	before, _ := a.Stats()
	cert, err := a.Leaf(t.Context(), host)
	after, _ := a.Stats()
	got := err == nil
	if want != nil && got != *want {
		t.Errorf("%q: issued %v (%v), want %v", host, got, err, *want)
	}
	if got != a.Permits(host) {
		t.Errorf("%q: issued %v, Permits says otherwise", host, got)
	}
	if err != nil {
		if !errors.Is(err, ca.ErrNotPermitted) {
			t.Errorf("%q: got error %v, want ErrNotPermitted", host, err)
		}
		if after != before {
			t.Errorf("%q: minted a leaf and refused it", host)
		}
		return
	}
	names := append([]string(nil), cert.Leaf.DNSNames...)
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if want := []string{host}; !slices.Equal(names, want) {
		t.Errorf("names: got %q, want %q", names, want)
	}
	if err := verify(a.RootPEM(), cert.Leaf, host, time.Now()); err != nil {
		t.Errorf("%q: %v", host, err)
	}
}

func TestLeaf(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a := permissive(t)
	long := strings.Repeat("a", 60) + ".example.test"
	for _, test := range []struct{ host, commonName string }{
		{"api.example.test", "api.example.test"},
		{long, ""},
		{"10.1.2.3", ""},
	} {
		cert, err := a.Leaf(t.Context(), test.host)
		if err != nil {
			t.Fatal(err)
		}
		leaf, root := cert.Leaf, rootsOf(t, a.RootPEM())[0]
		for _, check := range []struct {
			what      string
			got, want any
		}{
			{"common name", leaf.Subject.CommonName, test.commonName},
			{"CA", leaf.IsCA, false},
			{"key usage", leaf.KeyUsage, x509.KeyUsageDigitalSignature},
			{"extended key usage", fmt.Sprint(leaf.ExtKeyUsage), fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})},
			{"authority key id", string(leaf.AuthorityKeyId), string(root.SubjectKeyId)},
			{"subject key id", len(leaf.SubjectKeyId) >= 20, true},
			{"lifetime within a minute", leaf.NotAfter.Sub(now.Add(24*time.Hour)).Abs() < time.Minute, true},
			{"backdated within a minute", leaf.NotBefore.Sub(now.Add(-5*time.Minute)).Abs() < time.Minute, true},
			{"certificates sent", len(cert.Certificate), 1},
			{"serial bits", leaf.SerialNumber.BitLen() > 64, true},
		} {
			if check.got != check.want {
				t.Errorf("%s: %s: got %v, want %v", test.host, check.what, check.got, check.want)
			}
		}
	}
}

// What the root's key can sign is more than clients accept.
func TestForgedLeavesAreRejected(t *testing.T) {
	a := newAuthority(t)
	for _, host := range []string{"evil.test", "evilexample.test", "127.0.0.1", "::1"} {
		forged, err := a.ForgeLeaf(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(a.RootPEM(), forged.Leaf, host, time.Now()); err == nil {
			t.Errorf("%s: a leaf outside the constraints verifies", host)
		}
	}
}

// The rest of smallstep's authority costs megabytes and brings a server along.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const smallstep = "github.com/smallstep/certificates/"
	allowed := []string{smallstep + "cas/apiv1", smallstep + "cas/softcas"}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if strings.HasPrefix(dep, smallstep) && !slices.Contains(allowed, dep) || strings.HasPrefix(dep, "authsome/") && !slices.Contains([]string{"authsome/ca", "authsome/vault/regular"}, dep) {
			t.Errorf("ca imports %s", dep)
		}
	}
}
