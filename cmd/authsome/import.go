package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"authsome"
	"authsome/flows"
	"authsome/flows/imports"
	"authsome/flows/imports/predecessor"
	"authsome/provider"

	"github.com/spf13/cobra"
)

func newImport(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import SOURCE",
		Short: "Take over credentials from where other programs keep them",
		Long: `Take over credentials from where other programs keep them. Each one is asked
about first, and none is ever shown. Nothing is removed from where it was: do
that yourself, once a run has worked.

SOURCE is one of:
  a file      an env file; its variables are matched with those of providers
  gh          the GitHub CLI: hosts.yml, and "gh auth token" for what is in the
              system's credential store
  gcloud      application_default_credentials.json, as written by
              "gcloud auth application-default login"
  aws         the credentials file that AWS's tools share: a connection for each
              profile
  a directory the home of the Python authsome: the profile of the same name as
              the one in use`,
		Example: "  authsome import .env\n  authsome import gh\n  authsome import gcloud --connection work\n  authsome import ~/.authsome-old",
		Args:    exactArgs("SOURCE"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"gh\tthe GitHub CLI", "gcloud\tapplication default credentials", "aws\tthe credentials file of AWS's tools"}, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.importFrom(cmd.Context(), args[0], f) },
	}
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask; needed with --json")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace connections that are valid")
	cmd.Flags().StringVar(&f.connection, "connection", "", "name of the connections (default: each provider's default one)")
	return cmd
}

type importFlags struct {
	yes, force bool
	connection string
}

// imported is an entry of import --json.
type imported struct {
	Provider   string       `json:"provider"`
	Connection string       `json:"connection"`
	Where      string       `json:"where"`
	Status     flows.Status `json:"status"`
}

type notImported struct {
	Provider string `json:"provider,omitempty"`
	Where    string `json:"where"`
	Reason   string `json:"reason"`
}

func (a *app) importFrom(ctx context.Context, source string, f importFlags) error {
	if f.connection != "" {
		if err := provider.ValidName(f.connection); err != nil {
			return fmt.Errorf("%w: connection: %w", flows.ErrBadName, err)
		}
	}
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	found, skipped, err := a.readSource(ctx, client, source)
	if err != nil {
		return importError(source, err)
	}
	if a.json && !f.yes && len(found) > 0 {
		return a.unasked("nothing was imported")
	}
	done, left := []imported{}, []notImported{}
	for _, s := range skipped {
		left = append(left, notImported{s.Provider, where(s.Where, s.Variable, s.Line), s.Reason})
	}
	answers := bufio.NewReader(a.stdin)
	var failed []error
	for _, one := range found {
		if f.connection != "" {
			one.Connection = f.connection
		}
		at := where(one.Where, one.Variable, one.Line)
		wanted, err := f.yes, error(nil)
		if !f.yes {
			wanted, err = a.confirmBy(answers, fmt.Sprintf("Import %s as %s/%s?", at, one.Provider, orElse(one.Connection, flows.DefaultConnection)))
		}
		if err != nil { // it was not answered, and neither will the others be
			failed = append(failed, a.unanswered(err, len(done)))
			break
		}
		if !wanted {
			left = append(left, notImported{one.Provider, at, "not wanted"})
			continue
		}
		c, err := a.adopt(ctx, client, one, f.force)
		if errors.Is(err, context.Canceled) {
			failed = append(failed, err)
			break
		}
		if err != nil {
			if !errors.Is(err, flows.ErrAlreadyConnected) {
				failed = append(failed, err)
			}
			left = append(left, notImported{one.Provider, at, reason(err)})
			continue
		}
		done = append(done, imported{one.Provider, c.Name, at, c.EffectiveStatus(a.now())})
	}
	return a.importDone(source, done, left, errors.Join(failed...))
}

// unanswered is the error of a question that got no answer, after so many imports.
func (a *app) unanswered(err error, imported int) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case imported > 0:
		return a.unasked("the rest was not imported")
	}
	return a.unasked("nothing was imported")
}

// reason is an error in a list, without the hint that the command ends with.
func reason(err error) string {
	f := describe(err)
	return strings.ReplaceAll(f.msg, "\n", "; ")
}

func where(place, variable string, line int) string {
	if variable != "" {
		place = variable
	}
	if line > 0 {
		return fmt.Sprintf("%s (line %d)", place, line)
	}
	return place
}

func (a *app) importDone(source string, done []imported, left []notImported, failed error) error {
	if a.json {
		if failed == nil && len(done)+len(left) == 0 {
			return importError(source, imports.ErrNothing)
		}
		if err := a.emit(map[string]any{"source": source, "imported": done, "skipped": left}); err != nil {
			return err
		}
		return failed
	}
	for _, d := range done {
		if err := a.print("imported  %s/%s  from %s", d.Provider, d.Connection, d.Where); err != nil {
			return err
		}
	}
	for _, l := range left {
		if err := a.print("skipped   %s: %s", strings.TrimPrefix(l.Provider+"  "+l.Where, "  "), l.Reason); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(left, func(l notImported) bool { return strings.HasSuffix(l.Reason, flows.ErrAlreadyConnected.Error()) }) {
		a.say("What was connected already is as it was: add --force to replace it, or --connection NAME to have both.")
	}
	switch {
	case failed != nil:
		return failed
	case len(done)+len(left) == 0:
		return importError(source, imports.ErrNothing)
	case len(done) > 0 && source == "-":
		a.say("Next: authsome run -- your command")
	case len(done) > 0:
		a.say("%s is as it was: remove what is in the vault now from it. Next: authsome run -- your command", source)
	}
	return nil
}

func (a *app) adopt(ctx context.Context, client *authsome.Client, one imports.Found, force bool) (*flows.Connection, error) {
	entry, err := client.Registry.Lookup(one.Provider)
	if err != nil {
		return nil, err
	}
	c, err := client.Broker.Adopt(ctx, flows.Login{Provider: entry, Connection: one.Connection, BaseURL: one.BaseURL, Force: force,
		ClientID: one.ClientID, ClientSecret: one.ClientSecret},
		flows.Adopted{APIKey: one.APIKey, AccessToken: one.AccessToken, RefreshToken: one.RefreshToken, IDToken: one.IDToken,
			TokenType: one.TokenType, Scopes: one.Scopes, ExpiresAt: one.ExpiresAt, ObtainedAt: one.ObtainedAt,
			Account: one.Account, KeepClient: one.KeepClient})
	if err != nil || !c.AccessToken.IsZero() || entry.AuthType == provider.AuthAPIKey {
		return c, err
	}
	// There is a refresh token alone: see now whether it is good for anything.
	fresh, err := client.Broker.Fresh(ctx, c.Provider, c.Name)
	if err != nil {
		a.warn("%v; it is stored, and the next use tries again", err)
		return c, nil
	}
	return fresh, nil
}

// readSource finds out what a source holds.
func (a *app) readSource(ctx context.Context, client *authsome.Client, source string) ([]imports.Found, []imports.Skipped, error) {
	switch source {
	case "gh":
		b, err := a.readImport(ctx, filepath.Join(ghConfigDir(a.getenv), "hosts.yml"))
		if err != nil {
			return nil, nil, err
		}
		return imports.FromGH(b, ghToken(ctx))
	case "gcloud":
		b, err := a.readImport(ctx, gcloudFile(a.getenv))
		if err != nil {
			return nil, nil, err
		}
		one, err := imports.FromGcloud(b)
		return []imports.Found{one}, nil, err
	case "aws":
		b, err := a.readImport(ctx, awsFile(a.getenv))
		if err != nil {
			return nil, nil, err
		}
		return imports.FromAWS(b)
	}
	if info, err := os.Stat(source); err == nil && info.IsDir() {
		if !imports.IsPredecessor(source) {
			return nil, nil, errNoHome
		}
		return predecessor.Read(ctx, source, client.Profile, a.now(), oldKeyring(ctx))
	}
	b, err := a.readImport(ctx, source)
	if err != nil {
		return nil, nil, err
	}
	found, skipped := imports.NewIndex(client.Registry.All()).FromEnv(imports.ParseEnv(b))
	return found, skipped, nil
}

// importBytes is more than any of the files is.
const importBytes = 4 << 20

func (a *app) readImport(ctx context.Context, path string) ([]byte, error) {
	b, err := a.readInput(ctx, path, importBytes+1)
	if err == nil && len(b) > importBytes {
		err = fmt.Errorf("%w: it is larger than 4 MiB", imports.ErrFormat)
	}
	return b, err
}

// importError words why nothing came of an import.
func importError(source string, err error) error {
	name := repeatedPath(source)
	f := &fault{code: "ImportFailed", exit: exitOther, err: err, msg: fmt.Sprintf("import %s: %v", name, err), hint: "run: authsome import --help"}
	var path *fs.PathError
	if errors.As(err, &path) {
		f.msg = fmt.Sprintf("import %s: %s: %v", name, path.Path, path.Err)
		if source == path.Path {
			f.msg = fmt.Sprintf("import %s: %v", name, path.Err)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.code, f.exit, f.hint = "ImportNotFound", exitMissing, elsewhere(source)
	case errors.Is(err, errNoHome):
		f.hint = "an env file is imported by its name; run: authsome scan " + shellWord(source) + " to find some"
	case errors.Is(err, imports.ErrNothing):
		f.code, f.exit, f.hint = "ImportNothing", exitMissing, "run: authsome list --search WORD to find the provider, then authsome login"
	}
	return f
}

// errNoHome is the error of a directory that is no home of the Python authsome.
var errNoHome = fmt.Errorf("%w: it is a directory, and no home of the Python authsome", imports.ErrFormat)

// elsewhere says what to do about a source that is not there.
func elsewhere(source string) string {
	const help = "SOURCE is an env file, gh, gcloud, aws or a directory; run: authsome import --help"
	switch strings.ToLower(filepath.Base(source)) {
	case "gh":
		return "log in with gh auth login first, or say where its files are with GH_CONFIG_DIR"
	case "gcloud":
		return "run gcloud auth application-default login first, or say where the file is with GOOGLE_APPLICATION_CREDENTIALS"
	case "github", "github-cli":
		return "did you mean gh? " + help
	case "google", "gcp":
		return "did you mean gcloud? " + help
	case "aws":
		return "run aws configure first, or say where the file is with AWS_SHARED_CREDENTIALS_FILE"
	}
	return help
}
