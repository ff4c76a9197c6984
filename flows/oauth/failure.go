package oauth

import (
	"encoding/json"
	"slices"
	"strconv"
)

// failure reads an error from an answer; nil when it holds none. RFC 6749 section 5.2 puts
// {"error","error_description"} beside status 400. In the field it also comes with status 200, as an
// object, as {"ok":false}, as {"status":"…","message":"…"}, or as nothing but the status.
func failure(op string, r *reply, f fields, sent secrets) *Error {
	refused := r.status < 200 || r.status > 299
	code, description := failureText(f, refused)
	if code == "" && !refused {
		ok, stated := f["ok"].(bool)
		if !stated || ok {
			return nil
		}
		code = "unknown_error"
	}
	if code == "" {
		code = statusCode(r.status)
	}
	hide := slices.Concat(sent, f.secrets())
	code = hide.code(code)
	kind := kindOf(code, r.status)
	return &Error{
		Op: op, Code: code, Description: hide.clean(description, maxDescription), Status: r.status,
		Retryable: kind == ErrUnavailable, RetryAfter: r.retryAfter, kind: kind,
	}
}

// failureText finds the code and the description in the spellings that are in use. Names that a
// success may carry as well (status, code) count only when the HTTP status says that it is none.
func failureText(f fields, refused bool) (code, description string) {
	description = firstText(f, "error_description", "message", "error_message", "msg", "detail")
	switch e := f["error"].(type) {
	case string:
		code = e
	case fields:
		code = firstText(e, "error", "type", "status", "code")
		if code == "" {
			code = "unknown_error"
		}
		if d := firstText(e, "error_description", "message", "description"); d != "" {
			description = d
		}
	case bool:
		if e {
			code = "unknown_error"
		}
	case json.Number:
		if e != "0" {
			code = e.String()
		}
	}
	if code == "" && refused {
		code = firstText(f, "error_code", "status", "code")
	}
	return code, description
}

func firstText(f fields, names ...string) string {
	for _, name := range names {
		if s := f.scalar(name); s != "" {
			return s
		}
	}
	return ""
}

func statusCode(status int) string { return "http_" + strconv.Itoa(status) }
