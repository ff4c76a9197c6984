package flows_test

import (
	"os"
	"regexp"
	"testing"

	"authsome/provider"
)

// The definition in the guide is one that can be registered.
func TestGuide(t *testing.T) {
	b, err := os.ReadFile("../docs/login.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(b, -1)
	if len(blocks) == 0 {
		t.Fatal("the guide shows no definition")
	}
	for _, block := range blocks {
		if _, err := provider.Parse(block[1]); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
	}
}
