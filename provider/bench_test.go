package provider_test

import (
	"testing"

	"authsome/provider"
)

func BenchmarkCanonicalHost(b *testing.B) {
	for b.Loop() {
		if _, err := provider.CanonicalHost("api.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		r, _ := provider.Load("")
		if len(r.Names()) == 0 {
			b.Fatal("no providers")
		}
	}
}

func BenchmarkPermittedDNS(b *testing.B) {
	r := provider.Bundled()
	for b.Loop() {
		r.PermittedDNS()
	}
}

func BenchmarkParse(b *testing.B) {
	data := bundledFile(b, "github")
	for b.Loop() {
		if _, err := provider.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
