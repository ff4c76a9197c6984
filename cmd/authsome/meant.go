package main

import (
	"strings"

	"authsome/provider"

	"github.com/spf13/cobra"
)

// meantBy are words that other programs, and people, have for what a command of
// ours does, by the group that they are looked for in ("" is authsome itself). The
// first is the likeliest. What is only misspelled is found without a table.
var meantBy = map[string]map[string][]string{
	"": {
		"add": {"login", "register"}, "auth": {"login", "whoami"}, "autocomplete": {"completion"}, "audit": {"log"}, "authenticate": {"login"},
		"backup": {"vault backup"}, "cert": {"ca"}, "certificate": {"ca"}, "check": {"doctor"}, "commands": {"help"},
		"config": {"whoami", "profile", "register"}, "configure": {"login", "init"}, "connect": {"login"}, "create": {"login", "register"},
		"credentials": {"list"}, "daemon": {"proxy"}, "delete": {"logout", "remove"}, "describe": {"inspect"}, "disconnect": {"logout"},
		"docs": {"help"}, "env": {"export", "run"}, "environment": {"export", "run"}, "example": {"demo"}, "exec": {"run"},
		"gateway": {"proxy"}, "health": {"doctor"}, "healthcheck": {"proxy --healthcheck", "doctor"}, "history": {"log"}, "info": {"whoami", "inspect"},
		"isolate": {"run --isolate"}, "key": {"get", "export"}, "keys": {"list"}, "launch": {"run"}, "listen": {"proxy"},
		"logout-all": {"logout", "revoke"}, "ls": {"list"}, "man": {"help"}, "me": {"whoami"}, "migrate": {"import"},
		"new": {"login", "register"}, "providers": {"list"}, "provider": {"list", "inspect"}, "ps": {"list", "log"}, "rekey": {"vault rekey"},
		"refresh": {"login --force"}, "restore": {"vault restore"}, "rm": {"logout", "remove"}, "rotate": {"vault rekey", "ca rotate"}, "sandbox": {"run --isolate"},
		"search": {"list --search"}, "serve": {"proxy"}, "server": {"proxy"}, "service": {"proxy"}, "set": {"login"},
		"setup": {"init", "login"}, "shell": {"run"}, "show": {"get", "inspect"}, "sidecar": {"proxy"}, "signin": {"login"},
		"signout": {"logout"}, "start": {"run", "proxy"}, "status": {"list", "whoami", "doctor"}, "store": {"login", "vault"}, "switch": {"profile use"},
		"test": {"doctor", "demo"}, "token": {"get", "export"}, "topics": {"help"}, "trust": {"ca install"}, "try": {"demo"},
		"use": {"profile use", "connection default"}, "user": {"whoami"}, "verify": {"doctor", "log verify"}, "version": {"--version"}, "wrap": {"run"},
	},
	"ca": {
		"generate": {"rotate"}, "new": {"rotate"}, "print": {"export"}, "renew": {"rotate"}, "show": {"export"},
		"trust": {"install"}, "untrust": {"uninstall"},
	},
	"connection": {
		"ls": {"list"}, "mv": {"rename"}, "move": {"rename"}, "set-default": {"default"}, "show": {"list"}, "switch": {"default"}, "use": {"default"},
	},
	"profile": {
		"add": {"create"}, "current": {"list"}, "default": {"use"}, "ls": {"list"}, "new": {"create"},
		"remove": {"delete"}, "rm": {"delete"}, "select": {"use"}, "set": {"use"}, "show": {"list"}, "switch": {"use"},
	},
	"redirect": {
		"disable": {"down"}, "enable": {"up"}, "list": {"show"}, "off": {"down"}, "on": {"up"},
		"start": {"up"}, "status": {"show"}, "stop": {"down"},
	},
	"vault": {
		"copy": {"backup"}, "dump": {"backup"}, "export": {"backup"}, "fsck": {"check"}, "gc": {"compact"},
		"import": {"restore"}, "passphrase": {"rekey"}, "passwd": {"rekey"}, "rotate": {"rekey"}, "shrink": {"compact"},
		"status": {"check"}, "vacuum": {"compact"}, "verify": {"check"},
	},
}

// meant are the commands of cmd that somebody may have meant by a word: those that
// are called so elsewhere, or else those that are spelled like it.
func meant(cmd *cobra.Command, word string) []string {
	group := ""
	if cmd.HasParent() {
		group = nameOf(cmd)
	}
	if known := meantBy[group][strings.ToLower(word)]; known != nil {
		return known
	}
	return provider.Suggest(word, subcommands(cmd))
}
