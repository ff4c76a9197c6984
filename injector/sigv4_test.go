package injector_test

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"authsome/injector"
	"authsome/provider"
	"authsome/vault/secret"
)

const (
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	fakeID    = "AKIAAUTHSOMEPROXYMAN"
)

// awsRequest parses a request as a server does. scope is that of the client's own
// signature; "" leaves it out.
func awsRequest(t *testing.T, head, scope, body string) *http.Request {
	t.Helper()
	if scope != "" {
		head += "\nAuthorization: AWS4-HMAC-SHA256 Credential=" + fakeID + "/20200101/" + scope + ", Signature=" + strings.Repeat("0", 64) +
			"\nX-Amz-Date: 20200101T000000Z\nX-Amz-Security-Token: the client's"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		injector.Keep(r, []byte(body))
	}
	return r
}

// The signatures are those of AWS's own examples ("Signature Calculations for the
// Authorization Header" of S3's API reference, and "Create a signed AWS API
// request" of IAM's user guide).
func TestSigV4(t *testing.T) {
	const s3ID, s3Secret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	for _, tt := range []struct {
		name, head, scope, body string
		id, secret              string
		at                      time.Time
		want                    string
	}{
		{"GET of S3", "GET /test.txt HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nRange: bytes=0-9\nUser-Agent: any\nX-Amz-Content-Sha256: " + emptyHash,
			"us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token", "", s3ID, s3Secret,
			time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"PUT of S3, an escaped path, a hash that the client says", "PUT /test%24file.text HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nDate: Fri, 24 May 2013 00:00:00 GMT\n" +
			"X-Amz-Storage-Class: REDUCED_REDUNDANCY\nContent-Length: 21\nX-Amz-Content-Sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			"us-east-1/s3/aws4_request,SignedHeaders=content-length;date;host;x-amz-content-sha256;x-amz-date", "", s3ID, s3Secret,
			time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"a query in no order", "GET /?prefix=J&max-keys=2 HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nX-Amz-Content-Sha256: " + emptyHash,
			"us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date", "", s3ID, s3Secret,
			time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
		{"IAM", "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\nHost: iam.amazonaws.com\nContent-Type: application/x-www-form-urlencoded; charset=utf-8",
			"us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date", "", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
			time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC), "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := awsRequest(t, tt.head, tt.scope, tt.body)
			if err := injector.SignAt(r, tt.id, tt.secret, tt.at); err != nil {
				t.Fatal(err)
			}
			got := r.Header["Authorization"]
			if len(got) != 1 || !strings.HasSuffix(got[0], "Signature="+tt.want) || !strings.Contains(got[0], "Credential="+tt.id+"/") {
				t.Errorf("got %q, want signature %s", got, tt.want)
			}
			if date := r.Header.Get("X-Amz-Date"); date != tt.at.Format("20060102T150405Z") {
				t.Errorf("date %q", date)
			}
			if r.Header.Get("X-Amz-Security-Token") != "" {
				t.Error("the client's token is still there")
			}
			if target := strings.Fields(tt.head)[1]; r.URL.RequestURI() != target {
				t.Errorf("the target has become %q", r.URL.RequestURI())
			}
		})
	}
}

// What is not signed, or by somebody else in its URL, is for nobody to sign; what
// cannot be signed anew, or would answer with credentials, says so.
func TestSigV4Refuses(t *testing.T) {
	const host = " HTTP/1.1\nHost: sts.eu-west-1.amazonaws.com"
	scope := func(service string) string {
		return "eu-west-1/" + service + "/aws4_request, SignedHeaders=host;x-amz-date"
	}
	var signing *injector.SigningError
	for _, tt := range []struct {
		name, head, scope, body string
		want                    string // of a SigningError; "" is none, "unsigned" ErrUnsigned
	}{
		{"nothing", "GET /public HTTP/1.1\nHost: b.s3.amazonaws.com", "", "", "unsigned"},
		{"a presigned URL", "GET /x?X-Amz-Signature=00&X-Amz-Credential=AKIA HTTP/1.1\nHost: b.s3.amazonaws.com", "", "", "unsigned"},
		{"a bearer token", "GET / HTTP/1.1\nHost: bedrock-runtime.eu-west-1.amazonaws.com\nAuthorization: Bearer x", "", "", "not one AWS Signature"},
		{"SigV4A", "GET / HTTP/1.1\nHost: s3.amazonaws.com\nAuthorization: AWS4-ECDSA-P256-SHA256 Credential=A/20200101/s3/aws4_request, SignedHeaders=host, Signature=00", "", "", "not one AWS Signature"},
		{"two signatures", "GET /" + host + "\nAuthorization: AWS4-HMAC-SHA256 x", scope("s3"), "", "not one AWS Signature"},
		{"a region that is none", "GET /" + host, "eu_west/s3/aws4_request, SignedHeaders=host", "", "not one AWS Signature"},
		{"signed chunks", "PUT /" + host + "\nX-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", scope("s3"), "", "Each chunk"},
		{"two hashes", "PUT /" + host + "\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\nX-Amz-Content-Sha256: " + emptyHash, scope("s3"), "", "two X-Amz-Content-Sha256"},
		{"unsigned chunks", "PUT /" + host + "\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", scope("s3"), "", ""},
		{"a body", "POST /" + host, scope("dynamodb"), "{}", ""},
		{"who am I", "POST /" + host, scope("sts"), "Version=2011-06-15&Action=GetCallerIdentity", ""},
		{"who am I, in the query", "GET /?Action=GetCallerIdentity" + host, scope("sts"), "", ""},
		{"a role", "POST /" + host, scope("sts"), "Action=AssumeRole&RoleArn=x", "would hold credentials"},
		{"a role besides", "POST /?Action=GetCallerIdentity" + host, scope("sts"), "Action=AssumeRole", "would hold credentials"},
		{"a session token", "POST /" + host, scope("sts"), "%41ction=GetSessionToken", "would hold credentials"},
		{"no action", "POST /" + host, scope("sts"), "", "names no Action"},
		{"a form that is none", "POST /" + host, scope("sts"), "Action=%zz", "cannot be read"},
		{"another protocol's header", "POST /" + host + "\nX-Amz-Target: any.AssumeRole", scope("sts"), "Action=GetCallerIdentity", "cannot be read"},
		{"another protocol's path", "POST /service/any/operation/AssumeRole" + host, scope("sts"), "Action=GetCallerIdentity", "cannot be read"},
		{"a query that is read in two ways", "POST /?Action=AssumeRole;a=b" + host, scope("sts"), "Action=GetCallerIdentity", "cannot be read"},
		{"an access key", "POST /" + host, scope("iam"), "Action=CreateAccessKey", "would hold credentials"},
		{"users", "POST /" + host, scope("iam"), "Action=ListUsers", ""},
		{"a session of S3 Express", "GET /?session" + host, scope("s3express"), "", "would hold credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := awsRequest(t, tt.head, tt.scope, tt.body)
			before := r.Header.Clone()
			err := injector.SignAt(r, "AKIAREAL", "the secret", time.Now())
			switch {
			case tt.want == "":
				if err != nil || !strings.Contains(r.Header.Get("Authorization"), "Credential=AKIAREAL/") {
					t.Errorf("got %v, %q", err, r.Header["Authorization"])
				}
				return
			case tt.want == "unsigned":
				if !errors.Is(err, injector.ErrUnsigned) {
					t.Errorf("got %v", err)
				}
			case !errors.As(err, &signing) || !strings.Contains(signing.Detail, tt.want) || signing.Hint() == "":
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if len(r.Header) != len(before) {
				t.Errorf("the header has changed: %v", r.Header)
			}
		})
	}
}

// A body is wanted where nobody has said its hash, and where calls are looked at.
// (Whoever signs a call of STS for another service is turned away by STS.)
func TestSigV4WantsBodies(t *testing.T) {
	route := &injector.Route{Injects: []provider.Inject{{Manner: provider.MannerSigV4}}}
	other := &injector.Route{Injects: []provider.Inject{{Manner: provider.MannerBearer}}}
	hash := "\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD"
	for _, tt := range []struct {
		name, head, service string
		want                bool
	}{
		{"S3", hash, "s3", false}, {"a service whose clients say no hash", "", "bedrock", true},
		{"STS all the same", hash, "sts", true}, {"IAM all the same", hash, "iam", true},
	} {
		r := awsRequest(t, "POST / HTTP/1.1\nHost: a.amazonaws.com"+tt.head, "us-east-1/"+tt.service+"/aws4_request, SignedHeaders=host", "")
		if got := route.WantsBody(r); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
		if other.WantsBody(r) {
			t.Errorf("%s: a bearer token does not cover it", tt.name)
		}
	}
	if route.WantsBody(&http.Request{URL: &url.URL{}, Header: http.Header{}}) {
		t.Error("nobody has signed it")
	}
}

func TestSigV4Credential(t *testing.T) {
	for _, cred := range []string{"AKIA", ":secret", "AKIA:"} {
		_, err := injector.NewModifier([]provider.Inject{{Manner: provider.MannerSigV4}}, nil, secret.New(cred))
		if !errors.Is(err, injector.ErrCredentialShape) {
			t.Errorf("%q: got %v", cred, err)
		}
	}
}
