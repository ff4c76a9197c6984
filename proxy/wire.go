package proxy

import (
	"bufio"
	"net/http"
	"strconv"
)

// writeHead writes a request head to an HTTP/1.1 origin. Names and values were
// checked when they were read or set.
func writeHead(bw *bufio.Writer, r *http.Request) {
	bw.WriteString(r.Method)
	bw.WriteByte(' ')
	bw.WriteString(r.RequestURI)
	bw.WriteString(" HTTP/1.1\r\nHost: ")
	bw.WriteString(r.Host)
	bw.WriteString("\r\n")
	for name, values := range r.Header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		for _, v := range values {
			bw.WriteString(name)
			bw.WriteString(": ")
			bw.WriteString(v)
			bw.WriteString("\r\n")
		}
	}
	writeFraming(bw, r)
	bw.WriteString("\r\n")
}

func writeFraming(bw *bufio.Writer, r *http.Request) {
	switch {
	case r.Body != nil && r.ContentLength < 0:
		bw.WriteString("Transfer-Encoding: chunked\r\n")
		for name := range r.Trailer {
			bw.WriteString("Trailer: ")
			bw.WriteString(name)
			bw.WriteString("\r\n")
		}
	case r.Body != nil, r.Method == http.MethodPost, r.Method == http.MethodPut, r.Method == http.MethodPatch:
		var digits [20]byte
		bw.WriteString("Content-Length: ")
		bw.Write(strconv.AppendInt(digits[:0], max(r.ContentLength, 0), 10))
		bw.WriteString("\r\n")
	}
}
