package vault

// argon2Params are the parameters of Argon2id (RFC 9106), stored with what they
// protect so that they can be raised later.
type argon2Params struct {
	Time      uint32 `json:"time"`       // passes
	MemoryKiB uint32 `json:"memory_kib"` // memory
	Threads   uint8  `json:"threads"`    // lanes
	Salt      []byte `json:"salt"`       // 16 random bytes
}
