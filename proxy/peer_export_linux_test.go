package proxy

import "net"

// TrustPeerOf is ProcessTree for a proxy of this user, which looks through
// descriptors with holds.
func TrustPeerOf(root, user int, holds func(root int, inode string) bool) func(client, proxy net.Addr) bool {
	return (&processTree{root, user, holds}).admits
}
