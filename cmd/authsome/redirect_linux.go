package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

var errRedirectHere = errors.New("connections are redirected on Linux only")

func isPermission(err error) bool { return errors.Is(err, fs.ErrPermission) }

// redirectTable is ours alone. It is replaced as a whole, in one transaction, so
// that there is no moment without rules. Connections that are redirected
// already stay so: the kernel remembers each.
var redirectTable = &nftables.Table{Family: nftables.TableFamilyINet, Name: "authsome"}

// rule is one rule: what it does, in the words of nft(8), and for the kernel.
type rule struct {
	text  string
	exprs []expr.Any
}

// match is a condition of a rule.
type match struct {
	text  string
	exprs []expr.Any
}

// verdict is what becomes of a packet that meets all conditions.
type verdict = match

func when(then verdict, conditions ...match) rule {
	var r rule
	for _, c := range append(conditions, then) {
		if r.text != "" {
			r.text += " "
		}
		r.text += c.text
		r.exprs = append(r.exprs, c.exprs...)
	}
	return r
}

func meta(key expr.MetaKey, text string, want []byte) match {
	return match{text, []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want}}}
}

func user(uid uint32) match {
	return meta(expr.MetaKeySKUID, fmt.Sprintf("meta skuid %d", uid), binaryutil.NativeEndian.PutUint32(uid))
}

// device compares an interface's name, which the kernel pads to 16 bytes.
func device(key expr.MetaKey, word, name string) match {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded[:unix.IFNAMSIZ-1], name)
	return meta(key, fmt.Sprintf("%s %q", word, name), padded)
}

func going(name string) match  { return device(expr.MetaKeyOIFNAME, "oifname", name) }
func coming(name string) match { return device(expr.MetaKeyIIFNAME, "iifname", name) }

// toPort compares the destination port, which is at the same place in both.
func toPort(protocol byte, word string, port uint16) match {
	m := meta(expr.MetaKeyL4PROTO, fmt.Sprintf("%s dport %d", word, port), []byte{protocol})
	m.exprs = append(m.exprs, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
	return m
}

func tcp(port uint16) match { return toPort(unix.IPPROTO_TCP, "tcp", port) }
func udp(port uint16) match { return toPort(unix.IPPROTO_UDP, "udp", port) }

// neighbours is what IPv6 cannot do without: router and neighbour discovery, and
// listener reports (RFC 4861, RFC 3810). The kernel sends them for nobody.
func neighbour(kind byte) match {
	m := meta(expr.MetaKeyL4PROTO, fmt.Sprintf("icmpv6 type %d", kind), []byte{unix.IPPROTO_ICMPV6})
	m.exprs = append(m.exprs, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}})
	return m
}

// bits asks whether any of some bits of a connection's record is set.
func bits(key expr.CtKey, text string, mask uint32) match {
	return match{text, []expr.Any{&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}}
}

const ctStatusDNAT = 1 << 5 // IPS_DST_NAT of <linux/netfilter/nf_conntrack_common.h>

var (
	toUsHere    = match{"fib daddr type local", []expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}}
	wasAllowed  = bits(expr.CtKeySTATE, "ct state established,related", expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	isRedirect  = bits(expr.CtKeySTATUS, "ct status dnat", ctStatusDNAT)
	leaveAlone  = verdict{"return", []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}}
	accept      = verdict{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
	unreachable = verdict{"reject with icmpx port-unreachable", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}}
	prohibited  = verdict{"reject with icmpx admin-prohibited", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}}
	reset       = verdict{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
)

func redirectTo(port uint16) verdict {
	return verdict{fmt.Sprintf("redirect to :%d", port), []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)}, &expr.Redir{RegisterProtoMin: 1}}}
}

// webPorts are redirected.
var webPorts = []uint16{80, 443}

// ownRedirect sends what this namespace's processes open to the proxy. What goes
// to the namespace itself leaves by the loopback, and stays.
func (r redirection) ownRedirect() []rule {
	rules := []rule{when(leaveAlone, user(r.uid)), when(leaveAlone, going("lo"))}
	for _, port := range webPorts {
		rules = append(rules, when(redirectTo(r.port), tcp(port)))
	}
	return rules
}

// ownFilter rejects what got past: QUIC, and connections that are older than the
// rules.
func (r redirection) ownFilter() []rule {
	return append([]rule{when(leaveAlone, user(r.uid)), when(leaveAlone, going("lo"))}, r.filter()...)
}

// filter is the rest of a filter, of own traffic and of forwarded traffic alike.
func (r redirection) filter(conditions ...match) []rule {
	on := func(then verdict, more ...match) rule {
		return when(then, append(append([]match(nil), conditions...), more...)...)
	}
	rules := []rule{on(unreachable, udp(443))}
	for _, port := range webPorts {
		rules = append(rules, on(reset, tcp(port)))
	}
	if !r.strict {
		return rules
	}
	rules = append(rules, on(accept, isRedirect), on(accept, wasAllowed), on(accept, udp(53)), on(accept, tcp(53)))
	for _, kind := range []byte{133, 135, 136, 143} {
		rules = append(rules, on(accept, neighbour(kind)))
	}
	return append(rules, on(prohibited))
}

// forwardedRedirect sends what comes in to be forwarded to the proxy.
func (r redirection) forwardedRedirect() (rules []rule) {
	for _, name := range r.interfaces {
		rules = append(rules, when(leaveAlone, coming(name), toUsHere))
		for _, port := range webPorts {
			rules = append(rules, when(redirectTo(r.port), coming(name), tcp(port)))
		}
	}
	return rules
}

func (r redirection) forwardedFilter() (rules []rule) {
	for _, name := range r.interfaces {
		rules = append(rules, r.filter(coming(name))...)
	}
	return rules
}

func redirectUp(r redirection) error {
	for _, name := range r.interfaces {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("interface %q: want a name of 1 to %d characters", name, unix.IFNAMSIZ-1)
		}
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.AddTable(redirectTable) // so that there is one to delete
	c.DelTable(redirectTable)
	c.AddTable(redirectTable)
	for _, chain := range []struct {
		name     string
		kind     nftables.ChainType
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
		rules    []rule
	}{
		{"redirect", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, r.ownRedirect()},
		{"reject", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter, r.ownFilter()},
		{"forwarded-redirect", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, r.forwardedRedirect()},
		{"forwarded-reject", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter, r.forwardedFilter()},
	} {
		if len(chain.rules) == 0 {
			continue
		}
		made := c.AddChain(&nftables.Chain{Table: redirectTable, Name: chain.name, Type: chain.kind, Hooknum: chain.hook, Priority: chain.priority})
		for _, rule := range chain.rules {
			c.AddRule(&nftables.Rule{Table: redirectTable, Chain: made, Exprs: rule.exprs,
				UserData: userdata.AppendString(nil, userdata.TypeComment, rule.text)})
		}
	}
	return c.Flush()
}

func redirectDown() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.AddTable(redirectTable)
	c.DelTable(redirectTable)
	return c.Flush()
}

// redirectShow reads the rules back. A rule is shown as its comment, which says
// what it does.
func redirectShow() (ruleset, error) {
	out := ruleset{Table: "inet " + redirectTable.Name, Rules: []string{}}
	c, err := nftables.New()
	if err != nil {
		return out, err
	}
	tables, err := c.ListTablesOfFamily(redirectTable.Family)
	if err != nil {
		return out, err
	}
	for _, t := range tables {
		out.Installed = out.Installed || t.Name == redirectTable.Name
	}
	if !out.Installed {
		return out, nil
	}
	chains, err := c.ListChainsOfTableFamily(redirectTable.Family)
	if err != nil {
		return out, err
	}
	for _, chain := range chains {
		if chain.Table.Name != redirectTable.Name {
			continue
		}
		rules, err := c.GetRules(redirectTable, chain)
		if err != nil {
			return out, err
		}
		for _, r := range rules {
			text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			out.Rules = append(out.Rules, chain.Name+": "+text)
		}
	}
	return out, nil
}
