package isolate

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The two sides talk over a socket pair. A message is a length and a gob, which
// keeps the bytes of arguments and variables that are not UTF-8.

// request is what the outside asks for: one field is set.
type request struct {
	Ports   []uint16
	Command *Command
	Signal  int
}

// reply is what the inside answers.
type reply struct {
	Failed *failure
	Status *Status
}

// failure is an error on its way out.
type failure struct {
	Doing  string // what was being done
	Msg    string
	Errno  syscall.Errno // or 0
	Hidden bool          // it is ErrHidden
	Exec   bool          // the command could not be started
}

func fail(doing string, err error) *failure {
	f := &failure{Doing: doing, Msg: err.Error(), Hidden: errors.Is(err, ErrHidden)}
	errors.As(err, &f.Errno)
	return f
}

// maxMessageBytes bounds a message: arguments and environment are bounded by
// the kernel (execve(2)), well below.
const maxMessageBytes = 64 << 20

func frame(v any) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(b.Len()-4))
	return b.Bytes(), nil
}

func send(w io.Writer, v any) error {
	b, err := frame(v)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

func receive(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	return receiveBody(r, head, v)
}

func receiveBody(r io.Reader, head [4]byte, v any) error {
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessageBytes {
		return fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return gob.NewDecoder(bytes.NewReader(body)).Decode(v)
}

// sendFiles sends a message with descriptors.
func sendFiles(to *os.File, v any, files []*os.File) error {
	b, err := frame(v)
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return unix.Sendmsg(int(to.Fd()), b, unix.UnixRights(fds...), nil, 0) // shorter than any socket buffer
}

// receiveFiles receives a message and the descriptors that come with it.
func receiveFiles(from *os.File, v any) ([]*os.File, error) {
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oob, _, _, err := unix.Recvmsg(int(from.Fd()), head[:], rights, unix.MSG_WAITALL|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if n != len(head) {
		return nil, io.ErrUnexpectedEOF
	}
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(rights[:oob])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "a socket of the namespace"))
		}
	}
	return files, receiveBody(from, head, v)
}

// maxFiles is more sockets than there are: SCM_MAX_FD of the kernel.
const maxFiles = 253
