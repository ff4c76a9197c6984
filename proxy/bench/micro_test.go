package main

import "testing"

func BenchmarkMatch(b *testing.B) {
	b.Run("10", benchMatch(10, "api.p5.test"))
	b.Run("1000", benchMatch(1000, "api.p500.test"))
	b.Run("10000", benchMatch(10000, "api.p5000.test"))
	b.Run("wildcard", benchMatch(10000, "eu.p5009.test"))
}

func BenchmarkLeaf(b *testing.B) {
	b.Run("mint", benchMint)
	b.Run("cached", benchCached)
}
