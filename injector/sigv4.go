package injector

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/martian/v3"
)

// ErrUnsigned is returned for a request that its client did not sign, where a
// credential is a signature. There is nothing in it to replace: it is anonymous,
// or somebody else has signed its URL. It may be forwarded as it is.
var ErrUnsigned = errors.New("the request is not signed")

var errNotKept = errors.New("the body to be signed is not in memory")

// SigningError is why a request cannot be signed anew.
type SigningError struct {
	Detail string // a sentence
	Next   string // what to do instead
}

// Hint returns what to do instead.
func (e *SigningError) Hint() string { return e.Next }

func (e *SigningError) Error() string { return strings.TrimSuffix(e.Detail, ".") }

// sigV4 signs requests with AWS Signature Version 4. The client signs with the
// placeholder's key, and thereby says for which region and service, and what of
// its header; that signature is replaced.
type sigV4 struct {
	credentials aws.Credentials
	now         func() time.Time
}

var _ martian.RequestModifier = (*sigV4)(nil)

// newSigV4 takes a credential written "access key ID:secret access key".
func newSigV4(id, secret string) *sigV4 {
	return &sigV4{aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, time.Now}
}

const (
	amzDate    = "X-Amz-Date"
	amzToken   = "X-Amz-Security-Token"
	amzPayload = "X-Amz-Content-Sha256"
	sts        = "sts"
	iam        = "iam"
)

// scope is what a client's signature is for.
type scope struct {
	region, service string
	headers         []string // that it covers, in lower case
}

// v4Header is the shape of an Authorization header. Region and service are what
// signing keys are derived from, and bounded for that.
var v4Header = regexp.MustCompile(`^AWS4-HMAC-SHA256 +Credential=[^/,]+/[0-9]{8}/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request *, *SignedHeaders=([a-z0-9;_-]+) *, *Signature=[0-9a-f]+$`)

// readScope reads the client's signature. It fails with ErrUnsigned, or with a
// [SigningError] for a signature of another kind.
func readScope(h http.Header) (scope, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return scope{}, ErrUnsigned
	}
	m := v4Header.FindStringSubmatch(values[0])
	if len(values) > 1 || m == nil {
		return scope{}, &SigningError{"The Authorization header is not one AWS Signature Version 4.",
			"sign with the placeholders in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by SigV4 and not SigV4A"}
	}
	return scope{m[1], m[2], strings.Split(m[3], ";")}, nil
}

// wantsBody reports whether a body must be kept for its request to be signed:
// a signature covers its hash, and stands before it. S3's clients say the hash, or
// that there is none.
func wantsBody(h http.Header) bool {
	s, err := readScope(h)
	return err == nil && (speaksOfCredentials(s.service) || len(h[amzPayload]) == 0)
}

// ModifyRequest implements martian.RequestModifier. A body that [Route.WantsBody]
// asks for must be kept.
func (s *sigV4) ModifyRequest(r *http.Request) error {
	asked, err := readScope(r.Header)
	if err != nil {
		return err
	}
	payload, err := payloadHash(r)
	if err != nil {
		return err
	}
	if err := mints(r, asked.service); err != nil {
		return err
	}
	r.URL.User = nil
	for _, name := range []string{"Authorization", amzDate, amzToken} {
		delete(r.Header, name)
	}
	signed := covered(r, asked.headers)
	// One signer for each request: it remembers a key for every region and
	// service, which are the client's to name.
	err = v4.NewSigner().SignHTTP(context.Background(), s.credentials, signed, payload, asked.service, asked.region, s.now(), func(o *v4.SignerOptions) {
		// S3 takes a path as it is; others want it escaped once more.
		o.DisableURIPathEscaping = asked.service == "s3" || strings.HasPrefix(asked.service, "s3-") || asked.service == "s3express"
	})
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	for _, name := range []string{"Authorization", amzDate} {
		r.Header[name] = signed.Header[name]
	}
	return nil
}

// covered is a copy of the request with the part of its header that is signed:
// what the client has signed, what AWS wants signed, and no length or framing,
// which a proxy may change.
func covered(r *http.Request, names []string) *http.Request {
	host := cmp.Or(r.Host, r.URL.Host)
	c := &http.Request{Method: r.Method, Host: host, Header: make(http.Header),
		URL: &url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}}
	for name, v := range r.Header {
		lower := strings.ToLower(name)
		if lower != "content-length" && (strings.HasPrefix(lower, "x-amz-") || lower == "content-type" || slices.Contains(names, lower)) {
			c.Header[name] = slices.Clone(v)
		}
	}
	return c
}

// payloadHash is what the signature says of the body.
func payloadHash(r *http.Request) (string, error) {
	switch said := r.Header[amzPayload]; {
	case len(said) == 1 && strings.HasPrefix(said[0], "STREAMING-AWS4-"):
		return "", &SigningError{"Each chunk of the body is signed.", "have the client sign the request alone, as current SDKs do over https"}
	case len(said) == 1:
		return said[0], nil
	case len(said) > 1:
		return "", &SigningError{"There are two " + amzPayload + " headers.", "send one"}
	}
	b, ok := keptOf(r)
	if !ok {
		return "", errNotKept
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// What answers with credentials is refused: the client would have them in clear.
// Of STS only what is named here is signed; of IAM all but this.
var (
	harmlessInSTS = []string{"GetCallerIdentity", "GetAccessKeyInfo", "DecodeAuthorizationMessage"}
	mintedByIAM   = []string{"CreateAccessKey", "CreateServiceSpecificCredential", "ResetServiceSpecificCredential", "CreateLoginProfile", "UpdateLoginProfile"}
)

// speaksOfCredentials are the services whose calls are looked at. They take forms.
func speaksOfCredentials(service string) bool { return service == sts || service == iam }

// mints reports why a call is not signed, nil if it is.
func mints(r *http.Request, service string) error {
	if service == "s3express" && r.URL.Query().Has("session") {
		return &SigningError{"The answer of CreateSession would hold credentials.", "use a bucket that is not a directory bucket"}
	}
	if !speaksOfCredentials(service) {
		return nil
	}
	// Only a form says its Action where it is looked for. AWS's servers know other
	// protocols, which name it in the path or a header.
	unread := &SigningError{"The call cannot be read.", "send a form to the path /"}
	if path := r.URL.EscapedPath(); path != "" && path != "/" || len(r.Header["X-Amz-Target"]) > 0 {
		return unread
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return unread
	}
	b, ok := keptOf(r)
	if !ok {
		return errNotKept
	}
	more, err := url.ParseQuery(string(b))
	if err != nil {
		return unread
	}
	form["Action"] = append(form["Action"], more["Action"]...)
	if len(form["Action"]) == 0 {
		return &SigningError{"The call names no Action.", "name one"}
	}
	for _, action := range form["Action"] {
		if slices.Contains(harmlessInSTS, action) != (service == sts) || service == iam && slices.Contains(mintedByIAM, action) {
			return &SigningError{"The answer would hold credentials.", "log in with the credential that the call is to make"}
		}
	}
	return nil
}
