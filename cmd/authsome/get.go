package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

func newGet(a *app) *cobra.Command {
	var connection, field string
	var show bool
	cmd := &cobra.Command{
		Use:   "get PROVIDER",
		Short: "Print a connection's record",
		Long: `Print a connection's record. Secrets are redacted; one is shown only with
--field and --show-secret together.`,
		Example: "  authsome get github\n  authsome get github --field expires_at\n  authsome get openai --field api_key --show-secret",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if show && field == "" {
				return usageError(cmd, fmt.Errorf("--show-secret needs --field: one secret at a time"))
			}
			client, _, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if show && a.insideRun() {
				return insideRunError("get --show-secret")
			}
			c, err := client.Broker.Get(cmd.Context(), args[0], connection)
			if err != nil {
				return err
			}
			record := c.Public()
			if field == "" {
				return a.printRecord(record)
			}
			value, known := record[field]
			if !known {
				names := flows.FieldNames(record)
				return misspelled(cmd, "no field "+provider.Repeat(field)+"; there are "+strings.Join(names, ", "), field, names)
			}
			if text, ok := c.SecretField(field); ok && show {
				if err := client.Record("get", c.Provider, c.Name); err != nil {
					return err
				}
				value = text.Reveal()
			}
			return a.printField(field, value)
		},
	}
	cmd.Flags().StringVar(&connection, "connection", "", "name of the connection (default: the provider's default one)")
	cmd.Flags().StringVar(&field, "field", "", "print this field alone")
	cmd.Flags().BoolVar(&show, "show-secret", false, "show the field though it is a secret")
	cmd.RegisterFlagCompletionFunc("field", cobra.FixedCompletions(recordFields, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// recordFields are those that a record may have.
var recordFields = []string{"schema_version", "provider", "connection_name", "profile", "status", "auth_type", "base_url", "host_url", "token_url", "scopes",
	"token_type", "expires_at", "obtained_at", "account", "client_id", "access_token", "refresh_token", "id_token", "api_key", "client_secret", "metadata"}

func (a *app) printRecord(record map[string]any) error {
	if a.json {
		return a.emit(record)
	}
	for _, name := range flows.FieldNames(record) {
		if err := a.print("%s: %s", name, plainValue(record[name])); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printField(name string, value any) error {
	if a.json {
		return a.emit(map[string]any{name: value})
	}
	return a.print("%s", plainValue(value))
}

func plainValue(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case secret.Text:
		return v.String()
	case []string:
		return strings.Join(v, ",")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), `"`)
}

// insideRun reports whether this process is a child of authsome run. What it
// guards is a fence and no wall: a child may unset the variable. The wall is
// run --isolate, or another user.
func (a *app) insideRun() bool { return a.getenv("AUTHSOME_PROXY_MODE") == "true" }

func insideRunError(what string) error {
	return &fault{code: "InsideRun", exit: exitAuth, msg: what + " is refused inside authsome run",
		hint: "use the API as it is: the proxy attaches the credential"}
}
