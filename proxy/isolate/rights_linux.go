package isolate

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lockedBits have root be a user like others, and keep it so
// (capabilities(7), <linux/securebits.h>): with the caller's ids in the
// namespace, root's child is root there, and an exec would give it every
// capability again. Each bit is followed by the one that locks it: NOROOT,
// NO_SETUID_FIXUP, KEEP_CAPS (off) and NO_CAP_AMBIENT_RAISE.
const lockedBits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

// dropRights gives up every capability of this thread for good, and has no
// program that it executes bring one back.
func dropRights() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear the ambient set: %w", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, lockedBits, 0, 0, 0); err != nil {
		return fmt.Errorf("lock the secure bits: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("clear the capabilities: %w", err)
	}
	return nil
}

// architectures are those that the filter is written for: little-endian ones.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64}

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg0   = 16 // the lower half, on a little-endian machine
	offsetArg1   = 24
)

// x32Bit marks the calls of the x32 ABI, which amd64 kernels may have.
const x32Bit = 0x40000000

// filterCalls has the kernel refuse the calls that lead out of namespaces:
//
//   - sockets of families that network namespaces do not contain: vsock reaches
//     the machine's host, Bluetooth what is near. What remains is Unix, IPv4, IPv6
//     and netlink.
//   - io_uring, which makes sockets past this filter. Programs do without.
//   - TIOCSTI and TIOCLINUX, which type at the terminal that we share with the
//     shell that started us.
//
// Programs of another architecture, such as 32-bit ones, are ended: they number
// their calls in another way.
func filterCalls() error {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("there is no filter for %s: %w", runtime.GOARCH, unix.ENOTSUP)
	}
	program := assemble(arch)
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&f)), 0, 0); err != nil {
		return err
	}
	runtime.KeepAlive(program)
	return nil
}

func assemble(arch uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// jump skips so many instructions when the comparison holds, and when not.
	jump := func(how uint16, k uint32, then, otherwise uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: k, Jt: then, Jf: otherwise}
	}
	answer := func(with uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with} }
	refuse := func(errno unix.Errno) unix.SockFilter { return answer(unix.SECCOMP_RET_ERRNO | uint32(errno)) }
	return []unix.SockFilter{
		load(offsetArch),
		jump(unix.BPF_JEQ, arch, 0, 2),
		load(offsetNumber),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		answer(unix.SECCOMP_RET_KILL_PROCESS),

		jump(unix.BPF_JEQ, unix.SYS_IO_URING_SETUP, 0, 1),
		refuse(unix.ENOSYS),

		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 6),
		load(offsetArg0),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 3, 0),
		jump(unix.BPF_JEQ, unix.AF_INET, 2, 0),
		jump(unix.BPF_JEQ, unix.AF_INET6, 1, 0),
		jump(unix.BPF_JEQ, unix.AF_NETLINK, 0, 5),
		answer(unix.SECCOMP_RET_ALLOW),

		jump(unix.BPF_JEQ, unix.SYS_IOCTL, 0, 5),
		load(offsetArg1),
		jump(unix.BPF_JEQ, unix.TIOCSTI, 2, 0),
		jump(unix.BPF_JEQ, unix.TIOCLINUX, 1, 2),
		refuse(unix.EAFNOSUPPORT),
		refuse(unix.EPERM),
		answer(unix.SECCOMP_RET_ALLOW),
	}
}
