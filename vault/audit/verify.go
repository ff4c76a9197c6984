package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A TamperError is returned by [Verify] for the first line that does not fit.
type TamperError struct {
	Line   int // counted from 1; 0 when it is about no line
	Reason string
}

func (e *TamperError) Error() string {
	if e.Line == 0 {
		return "audit log: " + e.Reason
	}
	return fmt.Sprintf("audit log line %d: %s", e.Line, e.Reason)
}

// link is the part of a line that ties it to others.
type link struct {
	Event string `json:"event"`
	Chain string `json:"chain"`
	Seq   uint64 `json:"seq"`
	Prev  string `json:"prev"`
	After string `json:"after"`
}

// verifier holds what Verify has seen.
type verifier struct {
	seen    map[string]struct{} // hashes of all lines, for after
	last    map[string]last     // by chain
	rotated bool                // the stream begins in the middle of the log
}

type last struct {
	seq  uint64
	hash digest
}

// Verify reads a log, with its rotated files before it if there are any (see
// [OpenAll]), and returns a [*TamperError] for the first line that was edited,
// inserted, removed or moved. Lines at the end of a chain can be removed
// unseen unless a later Log was opened after them; [VerifyAll] looks closer.
func Verify(r io.Reader) error {
	v := &verifier{seen: map[string]struct{}{}, last: map[string]last{}}
	lines := newLineReader(r)
	for n := 1; ; n++ {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		if len(line) == 0 {
			continue
		}
		if reason := v.check(line); reason != "" {
			return &TamperError{Line: n, Reason: reason}
		}
	}
}

// check returns why line does not fit, or "".
func (v *verifier) check(line []byte) string {
	line, _ = intactPart(line)
	var l link
	if err := json.Unmarshal(line, &l); err != nil {
		if bytes.HasPrefix(line, []byte(lineStart[:2])) && !bytes.HasSuffix(line, []byte("}")) {
			return "half a line"
		}
		return "not a JSON object"
	}
	if len(v.seen) == 0 && l.Event == RotateEvent {
		v.rotated = true
	}
	if l.Chain == "" || l.Seq == 0 {
		return "no chain"
	}
	if l.Event == CutEvent {
		return "lines before it are gone"
	}
	before, known := v.last[l.Chain]
	switch {
	case !known && l.Seq > 1 && !v.rotated:
		return fmt.Sprintf("chain %s begins at line %d of it: %d removed", l.Chain, l.Seq, l.Seq-1)
	case known && l.Seq != before.seq+1:
		return fmt.Sprintf("chain %s goes from %d to %d", l.Chain, before.seq, l.Seq)
	case known && l.Prev != string(before.hash[:]):
		return fmt.Sprintf("the line before it in chain %s was edited", l.Chain)
	case !known && l.Seq == 1 && !v.anchored(l.After):
		return "the line that was last when this chain began is gone or was edited"
	}
	hash := hashLine(line)
	v.seen[string(hash[:])] = struct{}{}
	v.last[l.Chain] = last{l.Seq, hash}
	return ""
}

// anchored reports whether the line with this hash was seen. It may be in a
// file that is no longer kept.
func (v *verifier) anchored(after string) bool {
	if after == "" || v.rotated {
		return true
	}
	_, ok := v.seen[after]
	return ok
}
