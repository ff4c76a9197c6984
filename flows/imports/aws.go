package imports

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"authsome/vault/secret"
)

// awsProfile is a section of a credentials file.
type awsProfile struct {
	name           string
	line           int
	id, key, token string
}

// FromAWS reads the credentials file that AWS's tools share. Its profile default
// becomes the default connection, others are named after their profile.
func FromAWS(data []byte) (found []Found, skipped []Skipped, err error) {
	profiles, err := awsProfiles(data)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range profiles {
		where, reason := "profile "+p.name, ""
		switch {
		case p.id == "" || p.key == "":
			reason = "it has no access key"
		case p.token != "":
			reason = "its credentials are temporary"
		}
		if reason != "" {
			skipped = append(skipped, Skipped{Provider: "aws", Where: where, Line: p.line, Reason: reason})
			continue
		}
		f := Found{Provider: "aws", Where: where, Line: p.line, APIKey: secret.New(p.id + ":" + p.key)}
		if p.name != "default" {
			f.Connection = connectionNamed(p.name)
		}
		found = append(found, f)
	}
	if len(profiles) == 0 {
		return nil, nil, fmt.Errorf("%w: it has no profile", ErrNothing)
	}
	return found, skipped, nil
}

// awsProfiles reads the sections of an INI file.
func awsProfiles(data []byte) (all []awsProfile, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			name, _, ok := strings.Cut(line[1:], "]")
			if !ok {
				return nil, fmt.Errorf("%w: line %d: a section without its end", ErrFormat, n)
			}
			all = append(all, awsProfile{name: strings.TrimSpace(name), line: n})
			continue
		case len(all) == 0:
			return nil, fmt.Errorf("%w: line %d is in no section", ErrFormat, n)
		}
		key, value, _ := strings.Cut(line, "=")
		p := &all[len(all)-1]
		for name, to := range map[string]*string{"aws_access_key_id": &p.id, "aws_secret_access_key": &p.key, "aws_session_token": &p.token} {
			if strings.EqualFold(strings.TrimSpace(key), name) {
				*to = strings.TrimSpace(value)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return all, nil
}
