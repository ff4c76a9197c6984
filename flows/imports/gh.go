package imports

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"

	"go.yaml.in/yaml/v3"
)

// ghHost is one host of the GitHub CLI's hosts.yml. Since gh 2.40 users has one
// entry for each account and the fields beside it are those of the active one.
// Where the system has a credential store the tokens are there, and not here.
type ghHost struct {
	User       string            `yaml:"user"`
	OAuthToken string            `yaml:"oauth_token"`
	Users      map[string]ghUser `yaml:"users"`
}

type ghUser struct {
	OAuthToken string `yaml:"oauth_token"`
}

// FromGH reads the GitHub CLI's hosts.yml. token is asked for tokens that are
// not in the file, because they are in the system's credential store; it may be
// nil. The active account of github.com becomes the default connection, others
// are named after their account, and those of other hosts after the host.
func FromGH(data []byte, token func(host, user string) (secret.Text, error)) (found []Found, skipped []Skipped, err error) {
	var hosts map[string]ghHost
	if err := yaml.Unmarshal(data, &hosts); err != nil {
		return nil, nil, fmt.Errorf("%w: it is not a hosts.yml of gh", ErrFormat) // the cause could quote a token
	}
	names := make([]string, 0, len(hosts))
	for name := range hosts {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		host, err := provider.CanonicalHost(name)
		if err != nil {
			skipped = append(skipped, Skipped{Provider: "github", Where: fmt.Sprintf("%.60q", name), Reason: "it is no host"})
			continue
		}
		for _, account := range accounts(hosts[name]) {
			where := host
			if account.user != "" {
				where += ", account " + account.user
			}
			value := secret.New(account.token)
			if account.token == "" && token != nil {
				value, err = token(name, account.user)
			}
			if value.IsZero() {
				skipped = append(skipped, Skipped{Provider: "github", Where: where, Reason: absent(err)})
				continue
			}
			f := Found{Provider: "github", Where: where, AccessToken: value, TokenType: "bearer",
				Connection: ghConnection(host, account), Account: flows.Account{Label: account.user}}
			if host != "github.com" {
				f.BaseURL = "https://" + host
			}
			found = append(found, f)
		}
	}
	return found, skipped, nil
}

func absent(err error) string {
	if err != nil {
		return "its token is in the system's credential store: " + err.Error()
	}
	return "its token is in the system's credential store"
}

type ghAccount struct {
	user, token string
	active      bool
}

// accounts are those of a host, the active one first.
func accounts(h ghHost) []ghAccount {
	all := []ghAccount{{h.User, h.OAuthToken, true}}
	if all[0].token == "" {
		all[0].token = h.Users[h.User].OAuthToken
	}
	var others []string
	for user := range h.Users {
		if user != h.User {
			others = append(others, user)
		}
	}
	sort.Strings(others)
	for _, user := range others {
		all = append(all, ghAccount{user, h.Users[user].OAuthToken, false})
	}
	return all
}

// ghConnection names a connection so that no two accounts share one.
func ghConnection(host string, a ghAccount) string {
	if host == "github.com" && a.active {
		return ""
	}
	name := a.user
	if host != "github.com" {
		name = host
		if !a.active {
			name += "-" + a.user
		}
	}
	return connectionNamed(name)
}

// connectionNamed makes a connection's name of what others call a credential.
func connectionNamed(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, strings.TrimLeft(name, "._-"))
	if provider.ValidName(name) != nil {
		return "imported"
	}
	return name
}

// ErrNoToken is for a caller's token function to say that there is none.
var ErrNoToken = errors.New("gh did not give it")
