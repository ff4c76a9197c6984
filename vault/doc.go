// Package vault keeps records whose sensitive fields are encrypted, in a store
// that several processes share.
//
// A [Vault] turns a [Record] into bytes and back, and records every change in an
// audit log before it makes it. A [Store] keeps the bytes: [Bolt] on disk,
// [Memory] for tests. A [KeyWrapper] protects the data key. The vault attaches no
// meaning to keys and fields; what a provider or a token is, others know.
//
// # On disk
//
//	store.db                                          bbolt, 0600
//	├─ meta     digest       count and hash of all keys below
//	└─ records
//	   ├─ profile:p:github:connection:default         a record
//	   ├─ …
//	   ├─ vault:keys                                  the data keys, wrapped
//	   └─ vault:lock:<name>                           a lease, while it is held
//
//	record      {"account":{…},"access_token":ENVELOPE,…,"~seal":SEAL}
//	ENVELOPE    {"enc":1,"alg":"AES-256-GCM","kid":"…","nonce":"…","ciphertext":"…","tag":"…"}
//	            sealed with:  record key ‖ 0x00 ‖ field name
//	SEAL        {"kid":"…","nonce":"…","tag":"…"}
//	            a tag over:   record key ‖ 0x00 ‖ "~seal" ‖ 0x00 ‖ all bytes before "~seal"
//	vault:keys  {"version":1,"vault":"<random>","active":"<kid>",
//	             "keys":{"<kid>":{"created":"…","mode":"local_key","wrapped":BLOB}},"sum":"<SHA-256>"}
//	BLOB        {"alg":"AES-256-GCM","kek":"<id>","nonce":"…","ciphertext":"…"[,"argon2id":{…}]}
//	lease       {"owner":"<random>","expires":"…","ttl_ms":…,"process":{"pid":…,"space":"…","start":"…"}}
//	master.key  32 random bytes in base64, one key to a line, the one in use first; 0600
//
// Members are sorted by name. Bytes are in standard base64. A kid is derived from
// the data key and the vault's random name, which binds a wrapped key to both.
//
// # What that gives
//
//   - A ciphertext opens only in the record and field that it was made for.
//   - Plain fields cannot be altered either: they say where a secret may be sent.
//     Both fail with an [*IntegrityError] that names the record; the others
//     remain usable.
//   - The file is checked as a whole each time it is read, before bbolt may touch
//     it. A damaged, truncated or foreign file is a [*CorruptError] that names
//     it, never a panic, and is never written to. A record that went missing is
//     noticed by the digest.
//   - What was replaced or deleted is overwritten in the file at the same time
//     (bbolt would leave it in free pages). The file does not shrink; see
//     [Bolt.Compact]. The blocks of an SSD and the copies of a file system with
//     snapshots are beyond its reach.
//   - What cannot be detected: the whole file, or a whole record, replaced by an
//     older version of itself.
//
// # Between processes
//
// The file is opened, locked, used and closed for each operation, in about 35 µs
// for a read and 0.4 ms for a write with its sync. Nobody holds a lock while doing
// anything else. [Vault.Watch] keeps a [Snapshot] of ciphertext that is read
// without touching the disk. [Vault.Apply] compares and swaps. [Vault.Lock] is a
// lease, for what must be done by one process at a time and takes longer than
// a write.
package vault
