package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// redirection is what authsome redirect sets up.
type redirection struct {
	uid        uint32   // whose traffic is left alone: the proxy's
	port       uint16   // where the proxy takes redirected connections
	interfaces []string // besides this machine's own traffic, redirect what comes in here
	strict     bool     // let nothing else out but DNS
}

// ruleset is what is installed, as redirect show prints it.
type ruleset struct {
	Installed bool     `json:"installed"`
	Table     string   `json:"table"`
	Rules     []string `json:"rules"`
}

// The defaults go with the image: its user, and the port of its documentation.
const (
	redirectUID  = 65532
	redirectPort = 15001
)

func newRedirect(a *app) *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "redirect",
		Short: "Send this network namespace's web traffic through the proxy",
		Long: `Set nftables rules that send TCP ports 80 and 443 of every user but the proxy's
to the transparent listener of authsome proxy, over IPv4 and IPv6. UDP port 443
is rejected, so that HTTP/3 falls back to TCP. DNS is left alone.

It is meant for the network namespace of a pod or a container, before the agent
starts there, and needs CAP_NET_ADMIN. An agent that has that capability itself,
or runs as the proxy's user, can go round.`,
		Example: "  authsome redirect up --uid 65532 --port 15001\n  authsome redirect show\n  authsome redirect down",
	})
	r := redirection{uid: redirectUID, port: redirectPort}
	up := &cobra.Command{Use: "up", Short: "Set the rules, or replace those that are there", Args: exactArgs(),
		Example: "  authsome redirect up\n  authsome redirect up --strict",
		RunE: func(*cobra.Command, []string) error {
			if r.port == 0 {
				return &fault{code: "Usage", exit: exitUsage, msg: "--port 0: want 1 to 65535", hint: "give the port of the proxy's --transparent-listen"}
			}
			if err := redirectUp(r); err != nil {
				return redirectFault(err)
			}
			return a.redirected()
		}}
	up.Flags().Uint32Var(&r.uid, "uid", r.uid, "user id of the proxy, whose own traffic is left alone")
	up.Flags().Uint16Var(&r.port, "port", r.port, "port of the proxy's --transparent-listen")
	up.Flags().StringArrayVar(&r.interfaces, "interface", nil, "also redirect what comes in here to be forwarded: for a gateway (repeatable)")
	up.Flags().BoolVar(&r.strict, "strict", false, "reject all other traffic that leaves, but for DNS")
	cmd.AddCommand(up,
		&cobra.Command{Use: "down", Short: "Remove the rules", Args: exactArgs(), Example: "  authsome redirect down",
			RunE: func(*cobra.Command, []string) error {
				if err := redirectDown(); err != nil {
					return redirectFault(err)
				}
				return a.redirected()
			}},
		&cobra.Command{Use: "show", Short: "Print the rules as the kernel has them", Args: exactArgs(), Example: "  authsome redirect show --json",
			RunE: func(*cobra.Command, []string) error {
				set, err := redirectShow()
				if err != nil {
					return redirectFault(err)
				}
				if a.json {
					return a.emit(set)
				}
				if !set.Installed {
					a.say("not installed")
					return nil
				}
				return a.print("%s\n  %s", set.Table, strings.Join(set.Rules, "\n  "))
			}})
	return cmd
}

// redirected reports the rules after a change.
func (a *app) redirected() error {
	set, err := redirectShow()
	if err != nil {
		return redirectFault(err)
	}
	if a.json {
		return a.emit(set)
	}
	if set.Installed {
		a.say("redirected: %d rules in %s", len(set.Rules), set.Table)
	} else {
		a.say("not redirected")
	}
	return nil
}

func redirectFault(err error) error {
	code, hint := "Redirect", "does this kernel have nf_tables? on an old one the inet family lacks nat (Linux 5.2)"
	switch {
	case isPermission(err):
		code, hint = "NotPermitted", "it takes CAP_NET_ADMIN: run it as root, or give the init container the capability NET_ADMIN"
	case err == errRedirectHere:
		hint = "run it where the agent runs: in a Linux container or virtual machine"
	}
	return &fault{code: code, exit: exitOther, msg: fmt.Sprintf("set the redirection: %v", err), hint: hint, err: err}
}
