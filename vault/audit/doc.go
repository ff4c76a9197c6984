// Package audit keeps the record of what was done with credentials: one JSON
// object per line, appended, never rewritten.
//
//	{"time":"2026-01-02T03:04:05.000006Z","event":"inject","profile":"default",
//	 "provider":"github","connection":"default","actor":{"pid":42,"uid":1000,"run":"r1"},
//	 "outcome":"ok","method":"GET","scheme":"https","host":"api.github.com","port":443,
//	 "path":"/user","status":200,"bytes_in":0,"bytes_out":1024,"duration_ms":81.250,
//	 "protocol":"h2","chain":"9f1c20aa41d07be3","seq":2,"prev":"<SHA-256, hex>"}
//
// (one line in the file; broken here to be read). Absent fields were empty.
//
// # What a line promises
//
// A line is written by one write(2) on a descriptor opened for appending, so
// lines of several processes never mix. It is at most [MaxLineBytes] long: a
// longer host, path or detail is cut and ends in "…". Control characters,
// invalid UTF-8 and line separators are escaped, so no value can forge a line.
// The text of an event comes from authsome, except method, host and path,
// which a client chose. Nobody may put a secret, a query string or a body in.
//
// Lines are not synced to disk one by one, which would cost each request a
// millisecond: they survive the death of the process, and a loss of power may
// take the last seconds.
//
// # Recording comes first
//
// What cannot be recorded must not happen. [Log.Write] fails with
// [ErrUnavailable] and the caller refuses; a proxy, which knows the outcome
// only after the fact, takes a [Ticket] from [Log.Reserve] before it forwards.
// On Linux a ticket is backed by disk blocks that fallocate(2) set aside beyond
// the end of the file, so a disk that fills meanwhile does not lose the line.
// Elsewhere, and on file systems without fallocate, free space is checked or
// the last write's failure is remembered, and an unwritten line is kept in
// memory until there is room.
//
// # Tamper evidence
//
// Each open Log is a chain: seq counts its lines from 1 and prev is the SHA-256
// of its previous line. The first line names, as after, the hash of whatever
// line was last in the file at that time. [Verify] finds an edited, removed or
// reordered line. It needs no key and so proves nothing against somebody who
// rewrites the whole file and every hash in it, and it cannot see that the very
// last lines were cut off; ship the lines elsewhere where that matters.
//
// # Rotation
//
// At [Config.MaxBytes] the file becomes audit.log.1, .1 becomes .2, and so on up
// to [Config.Keep]. The path never ceases to exist. A process that did not
// rotate notices within 100 ms of its next line; what it writes until then
// lands in audit.log.1.
package audit
