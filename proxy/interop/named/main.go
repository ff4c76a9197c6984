// Named is grpc-go's interoperability server that also says who it is, which
// the case pick_first_unary asks and grpc-go's own server does not answer.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
)

func main() {
	port := flag.String("port", "", "the loopback port to listen on")
	cert := flag.String("tls_cert_file", "", "PEM file of the certificate")
	key := flag.String("tls_key_file", "", "PEM file of its key")
	flag.Parse()
	if err := serve(*port, *cert, *key); err != nil {
		log.Fatal(err)
	}
}

func serve(port, cert, key string) error {
	creds, err := credentials.NewServerTLSFromFile(cert, key)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(creds))
	grpc_testing.RegisterTestServiceServer(s, &named{interop.NewTestServer(), host, host + "-" + strconv.Itoa(os.Getpid())})
	return s.Serve(l)
}

// named is a test service with a name.
type named struct {
	grpc_testing.TestServiceServer
	host, id string
}

// UnaryCall implements grpc_testing.TestServiceServer.
func (n *named) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	out, err := n.TestServiceServer.UnaryCall(ctx, in)
	if err == nil && in.GetFillServerId() {
		out.ServerId, out.Hostname = n.id, n.host
	}
	return out, err
}
