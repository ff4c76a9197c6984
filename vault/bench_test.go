package vault_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"authsome/vault"
)

// filled returns a vault on disk with n connections.
func filled(b *testing.B, n int) *kit {
	v := open(b, openBolt(b, filepath.Join(b.TempDir(), "store.db")))
	var changes []vault.Change
	for i := range n {
		changes = append(changes, vault.Change{Key: fmt.Sprintf("profile:default:p%05d:connection:default", i), Record: record("api.example.com", "s3cret-token-value")})
	}
	if err := v.Apply(context.Background(), login, changes...); err != nil {
		b.Fatal(err)
	}
	return v
}

const firstKey = "profile:default:p00000:connection:default"

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Get(context.Background(), firstKey); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Apply(context.Background(), login, vault.Change{Key: firstKey, Record: record("api.example.com", "new")}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSnapshotGet(b *testing.B) {
	v := filled(b, 1000)
	if err := v.Reload(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := v.Snapshot().Get(firstKey); !ok {
			b.Fatal("missing")
		}
	}
}

func BenchmarkReload(b *testing.B) {
	v := filled(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Reload(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	v := filled(b, 1)
	entry, err := v.Get(context.Background(), firstKey)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := entry.Record(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLock(b *testing.B) {
	v := filled(b, 10)
	for b.Loop() {
		unlock, err := v.Lock(context.Background(), "x", 1e9)
		if err != nil {
			b.Fatal(err)
		}
		if err := unlock(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
