package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// numbered is a record that holds n twice, in clear and in secret.
func numbered(n int) *vault.Record {
	return &vault.Record{
		Fields:  map[string]json.RawMessage{"n": json.RawMessage(strconv.Itoa(n)), "pad": json.RawMessage(`"` + strings.Repeat("x", n%900) + `"`)},
		Secrets: map[string]secret.Text{"access_token": secret.New(strconv.Itoa(n))},
	}
}

// number reads it back, and fails when the two differ.
func number(e *vault.Entry) (int, error) {
	r, err := e.Record()
	if err != nil {
		return 0, err
	}
	if plain, sealed := string(r.Fields["n"]), r.Secrets["access_token"].Reveal(); plain != sealed {
		return 0, fmt.Errorf("record %s holds %s and %s", e.Key, plain, sealed)
	}
	return strconv.Atoi(string(r.Fields["n"]))
}

func writerKey(id string, slot int) string { return fmt.Sprintf("profile:default:w%s:%d", id, slot) }

// slots is how many records each writer has; it deletes every seventh.
const slots = 20

func init() {
	children["write numbers"] = func(args []string) error {
		dir, id := args[0], args[1]
		v, err := openIn(dir)
		if err != nil {
			return err
		}
		from, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		for n := from; ; n++ {
			change := vault.Change{Key: writerKey(id, n%slots), Record: numbered(n)}
			if n%7 == 0 {
				change.Record = nil
			}
			if err := v.Apply(context.Background(), login, change); err != nil {
				return err
			}
			fmt.Println(n)
		}
	}
	children["open"] = func(args []string) error {
		waitForInput()
		v, err := openIn(args[0])
		if err != nil {
			return err
		}
		if err := v.Apply(context.Background(), login, vault.Change{Key: "from:" + args[1], Record: numbered(1)}); err != nil {
			return err
		}
		fmt.Println("ok")
		return nil
	}
}

// TestKilledWhileWriting kills four writers at random moments, over and over.
// Whatever a writer was told is written is there in the end.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	const writers, wanted = 4, 250 // of each writer
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			id, next, kills := strconv.Itoa(w), 1, 0
			for next <= wanted && !t.Failed() {
				next = writeUntilKilled(t, dir, id, next)
				kills++
			}
			t.Logf("writer %d: %d writes, killed %d times", w, next-1, kills)
			checkWriter(t, dir, id, next)
		})
	}
	wg.Wait()
	store := openBolt(t, filepath.Join(dir, "store.db"))
	content, err := os.ReadFile(store.Path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.ReadImage(content); err != nil {
		t.Errorf("the store is damaged: %v", err)
	}
	file, err := os.Open(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := audit.Verify(file); err != nil {
		t.Errorf("the audit log does not verify: %v", err)
	}
}

// writeUntilKilled runs a writer from number next for a random time, and returns
// the first number that was not acknowledged.
func writeUntilKilled(t *testing.T, dir, id string, next int) int {
	c := start(t, nil, "write numbers", dir, id, strconv.Itoa(next))
	timer := time.AfterFunc(time.Duration(5+rand.N(200))*time.Millisecond, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	for _, line := range c.rest() {
		n, err := strconv.Atoi(line)
		if err != nil || n != next {
			t.Errorf("writer %s, waiting for %d: %s", id, next, line)
			break
		}
		next++
	}
	_ = c.Wait()
	return next
}

// checkWriter holds the records of one writer, whose number next may or may not
// have been written, against what was acknowledged.
func checkWriter(t *testing.T, dir, id string, next int) {
	v, err := openIn(dir)
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	for slot := range slots {
		last := next - 1
		for last%slots != slot {
			last--
		}
		entry, err := v.Get(t.Context(), writerKey(id, slot))
		if errors.Is(err, vault.ErrNotFound) {
			if gone := last <= 0 || last%7 == 0 || next%slots == slot && next%7 == 0; !gone {
				t.Errorf("writer %s: number %d is lost", id, last)
			}
			continue
		}
		if err != nil {
			t.Errorf("writer %s: %v", id, err)
			continue
		}
		got, err := number(entry)
		if err != nil || got != last && !(got == next && next%slots == slot) || got%7 == 0 {
			t.Errorf("writer %s, slot %d: got %d, %v; want %d", id, slot, got, err, last)
		}
	}
}

// Eight processes make the same vault at once: they end up with one key.
func TestManyProcessesCreateOneVault(t *testing.T) {
	for round := range 3 {
		dir := t.TempDir()
		var all []*child
		for i := range 8 {
			all = append(all, start(t, nil, "open", dir, strconv.Itoa(i)))
		}
		time.Sleep(50 * time.Millisecond) // all wait for the signal
		for _, c := range all {
			_ = c.in.Close()
		}
		for i, c := range all {
			if got := c.line(t); got != "ok" {
				t.Errorf("round %d, process %d: %s", round, i, got)
			}
		}
		v, err := openIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := v.List(t.Context(), "from:")
		if err != nil || len(entries) != 8 {
			t.Fatalf("round %d: %d records, %v", round, len(entries), err)
		}
		for _, e := range entries {
			if _, err := number(e); err != nil {
				t.Error(err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
