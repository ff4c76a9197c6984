//go:build linux

package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "../../deploy/prometheus/authsome.rules.yml"
	rulesTestFile = "../../deploy/prometheus/authsome.rules_test.yml"
	dashboardFile = "../../deploy/grafana/authsome.json"
	alertsPage    = "../../docs/alerts.md"
)

// rule is one of the rules file.
type rule struct {
	Record, Alert, Expr string
	Labels              map[string]string
	Annotations         map[string]string
}

func rules(t *testing.T) []rule {
	t.Helper()
	var f struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, rulesFile)), &f); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("only %d rules were found", len(all))
	}
	return all
}

// Prometheus' own tool takes the rules, and each alert fires when it should.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTestFile}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	tests, page := readFile(t, rulesTestFile), readFile(t, alertsPage)
	var alerts []string
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, r.Alert)
		if !strings.Contains(tests, `ALERTS{alertname="`+r.Alert+`", alertstate="firing"`) {
			t.Errorf("%s: no test has it fire", r.Alert)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: without summary or description", r.Alert)
		}
		if got, want := r.Annotations["runbook_url"], "docs/alerts.md#"+strings.ToLower(r.Alert); got != want {
			t.Errorf("%s: runbook_url: got %q, want %q", r.Alert, got, want)
		}
		if !strings.Contains(page, "\n### "+r.Alert+"\n") {
			t.Errorf("%s: docs/alerts.md does not explain it", r.Alert)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Authsome\w+)$`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(alerts, m[1]) {
			t.Errorf("docs/alerts.md explains %s, which does not exist", m[1])
		}
	}
}

// query is one of a dashboard's panels, its variables filled in.
type query struct{ panel, expr string }

func dashboard(t *testing.T) []query {
	t.Helper()
	type place struct{ X, Y, W, H int }
	type panel struct {
		ID                       int
		Title, Type, Description string
		GridPos                  place
		Targets                  []struct{ Expr string }
		Panels                   []panel
	}
	var d struct {
		UID        *string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type string }
		}
	}
	text := readFile(t, dashboardFile)
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != nil {
		t.Error("the dashboard has a uid of its own")
	}
	for _, m := range regexp.MustCompile(`"uid":\s*"([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if m[1] != "${datasource}" {
			t.Errorf("a data source is hard-coded: %q", m[1])
		}
	}
	if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" {
		t.Errorf("the first variable is not the data source: %+v", v)
	}
	fill := strings.NewReplacer("$job", "authsome", "$instance", ".*", "$provider", ".*", "$__rate_interval", "10s", "$__range", "1m")
	var all []query
	ids := map[int]bool{}
	taken := map[place]string{} // by cell
	var walk func([]panel)
	walk = func(panels []panel) {
		for _, p := range panels {
			if ids[p.ID] {
				t.Errorf("%s: its id %d is another panel's", p.Title, p.ID)
			}
			ids[p.ID] = true
			if p.Type != "row" && (p.Title == "" || p.Description == "" || len(p.Targets) == 0) {
				t.Errorf("panel %d %q: without title, description or query", p.ID, p.Title)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					cell := place{X: x, Y: y}
					if other := taken[cell]; other != "" || x >= 24 {
						t.Fatalf("%s: lies on %q, or outside", p.Title, other)
					}
					taken[cell] = p.Title
				}
			}
			for _, target := range p.Targets {
				q := query{p.Title, fill.Replace(target.Expr)}
				if strings.Contains(q.expr, "$") {
					t.Errorf("%s: a variable that is not known: %s", q.panel, q.expr)
				}
				all = append(all, q)
			}
			walk(p.Panels)
		}
	}
	walk(d.Panels)
	if len(all) < 30 {
		t.Fatalf("only %d queries were found", len(all))
	}
	return all
}

// scraper is a running Prometheus.
type scraper struct {
	t      *testing.T
	name   string
	url    string
	stderr lockedBuffer
}

var scraperListens = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// scrape starts Prometheus with our rules. It scrapes the service every second,
// its histograms with native buckets or with classic ones.
func (s *service) scrape(native bool) *scraper {
	s.t.Helper()
	rulesPath, err := filepath.Abs(rulesFile)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	config := file(s.t, dir, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - {job_name: authsome, static_configs: [{targets: ["%s"]}]}
`, rulesPath, s.metrics))
	args := []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0"}
	p := &scraper{t: s.t, name: "classic"}
	if native {
		p.name = "native"
		args = append(args, "--enable-feature=native-histograms")
	}
	cmd := exec.Command("prometheus", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, []string{"PATH=" + os.Getenv("PATH")}, &p.stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("Prometheus (%s) said:\n%s", p.name, p.stderr.String())
		}
	})
	s.eventually("Prometheus listens", func() bool {
		m := scraperListens.FindStringSubmatch(p.stderr.String())
		if m != nil {
			p.url = "http://" + m[1]
		}
		return m != nil
	})
	return p
}

// ask calls Prometheus' API and decodes the answer's data.
func (p *scraper) ask(path string, params url.Values, data any) error {
	resp, err := http.Get(p.url + "/api/v1/" + path + "?" + params.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(b, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: status %q %s %v", path, answer.Status, answer.Error, err)
	}
	return nil
}

// values runs a query now, and returns how many histograms and which numbers it
// gave.
func (p *scraper) values(expr string) (histograms int, numbers []float64, err error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.ask("query", url.Values{"query": {expr}}, &data); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", expr, err)
	}
	var samples []struct {
		Value     []any
		Histogram []any
	}
	if data.ResultType != "vector" {
		return 0, nil, fmt.Errorf("%s: a %s", expr, data.ResultType)
	}
	if err := json.Unmarshal(data.Result, &samples); err != nil {
		return 0, nil, err
	}
	for _, s := range samples {
		if s.Histogram != nil {
			histograms++
			continue
		}
		v, err := strconv.ParseFloat(s.Value[1].(string), 64)
		if err != nil {
			return 0, nil, err
		}
		if !math.IsNaN(v) {
			numbers = append(numbers, v)
		}
	}
	return histograms, numbers, nil
}

// wantNumber waits until a query gives one number.
func (p *scraper) wantNumber(s *service, expr string, want float64) {
	p.t.Helper()
	var got []float64
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(100 * time.Millisecond) {
		var err error
		if _, got, err = p.values(expr); err == nil && len(got) == 1 && got[0] == want {
			return
		}
	}
	p.t.Errorf("%s: %s: got %v, want %v", p.name, expr, got, want)
}

// wantData waits until a query gives something.
func (p *scraper) wantData(q query) {
	p.t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
		var histograms int
		var numbers []float64
		if histograms, numbers, err = p.values(q.expr); histograms+len(numbers) > 0 {
			return
		}
		if err != nil && strings.Contains(err.Error(), "parse error") {
			break
		}
	}
	p.t.Errorf("%s: panel %q has no data: %s %v", p.name, q.panel, q.expr, err)
}

// wantHealthyRules waits until every rule has been evaluated, and none failed.
func (p *scraper) wantHealthyRules(s *service, n int) {
	p.t.Helper()
	type evaluated struct{ Name, Health, LastError string }
	var bad []evaluated
	s.eventually("all rules have been evaluated", func() bool {
		var data struct {
			Groups []struct{ Rules []evaluated }
		}
		if err := p.ask("rules", nil, &data); err != nil {
			p.t.Fatal(err)
		}
		ok := 0
		bad = nil
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				switch r.Health {
				case "ok":
					ok++
				case "err":
					bad = append(bad, r)
				}
			}
		}
		return ok+len(bad) == n
	})
	for _, r := range bad {
		p.t.Errorf("%s: rule %s: %s", p.name, r.Name, r.LastError)
	}
}

// load is what agents do all day, and what some of them get wrong.
type load struct {
	s        *service
	agent    *http.Client // has the variables and the bundle
	bare     *http.Client // trusts the origin alone: goes through tunnels
	stranger *http.Client // has no token
	rounds   int
}

func (s *service) load() *load {
	l := &load{s: s, agent: s.client(), bare: s.client(), stranger: s.client()}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(s.t, s.w.roots)))
	l.bare.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	l.stranger.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: s.addr})
	return l
}

// round makes one request of each kind. What they get is wanted.
func (l *load) round() {
	expect := func(client *http.Client, target string, want string) {
		if status, body := get(client, target); !strings.Contains(fmt.Sprint(status, " ", body), want) {
			l.s.t.Errorf("%s: got %d %q, want %q", target, status, body, want)
		}
	}
	l.rounds++
	for _, target := range []string{apiURL, "https://robot.example.test/", "https://droid.example.test/v1"} {
		expect(l.agent, target, "200 welcome")
	}
	resp, err := l.agent.Post(apiURL, "text/plain", strings.NewReader(strings.Repeat("x", 10_000)))
	if err != nil {
		l.s.t.Error(err)
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	l.bare.CloseIdleConnections()
	expect(l.bare, "https://elsewhere.example.test/", "401 who are you?")
	expect(l.bare, apiURL, "unknown authority") // it does not trust the proxy
	expect(l.agent, "https://droid.example.test/broken", "500")
	expect(l.stranger, apiURL, "Proxy Authentication Required")
	expect(l.agent, "https://nowhere.invalid/", "Bad Gateway")
	req, err := http.NewRequest(http.MethodGet, apiURL, nil)
	if err != nil {
		l.s.t.Fatal(err)
	}
	req.Host = "evil.example.test"
	if resp, err = l.agent.Do(req); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		l.s.t.Errorf("another Host: got %v, %v, want 421", resp, err)
		return
	}
	resp.Body.Close()
}

// start goes on until stop is called, or the test ends.
func (l *load) start() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				l.round()
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	l.s.t.Cleanup(stop)
	return stop
}

// A real Prometheus scrapes a proxy under load: every query of the dashboard has
// data there, and every rule is evaluated.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	w, i := newWorld(t), newIssuer(t)
	w.login(exampleDefinition, "example")
	i.set(2, "") // renewed every second
	w.robot(i, "robot", "default")
	i.set(3600, "")
	w.robot(i, "droid", "default")
	i.set(2, "")
	s := w.serve("--token-file", filepath.Join(t.TempDir(), "token"))
	l := s.load()
	stop := l.start()
	scrapers := []*scraper{s.scrape(true), s.scrape(false)}
	queries, all := dashboard(t), rules(t)
	for _, p := range scrapers {
		for _, q := range queries {
			p.wantData(q)
		}
		for _, r := range all {
			if _, _, err := p.values(r.Expr); err != nil {
				t.Errorf("%s: rule %s%s: %v", p.name, r.Record, r.Alert, err)
			}
			if r.Record != "" {
				p.wantData(query{"recording rule", r.Record})
			}
		}
		p.wantHealthyRules(s, len(all))
	}
	stop()

	n := float64(l.rounds)
	i.mu.Lock()
	refreshed := float64(i.asked - 2) // two were logins
	i.mu.Unlock()
	// This version of Prometheus keeps one kind of buckets of a histogram.
	scrapers[0].wantNumber(s, `sum(histogram_count(authsome_request_duration_seconds{provider="droid"}))`, 2*n)
	scrapers[0].wantNumber(s, `count(authsome_request_duration_seconds_bucket) or vector(0)`, 0)
	scrapers[1].wantNumber(s, `authsome_request_duration_seconds_bucket{provider="droid", le="+Inf"}`, 2*n)
	for _, p := range scrapers {
		for expr, want := range map[string]float64{
			`sum(authsome_requests_total{outcome="injected", code_class="2xx"})`:             4 * n,
			`sum(authsome_requests_total{outcome="injected", provider="example"})`:           2 * n,
			`sum(authsome_requests_total{outcome="refused", provider="", code_class="4xx"})`: n,
			`authsome_refusals_total{code="target_mismatch"}`:                                n,
			`authsome_refusals_total{code="proxy_auth_required"}`:                            n,
			`authsome_refusals_total{code="upstream_unreachable"}`:                           n,
			`authsome_tunnels_total{outcome="ok"}`:                                           n,
			`authsome_tunnels_total{outcome="failed"}`:                                       n,
			`authsome_tls_handshake_errors_total{side="client", reason="untrusted"}`:         n,
			`authsome_bytes_total{direction="up", kind="request"}`:                           10_000 * n,
			`authsome_refresh_total{provider="robot", outcome="ok"}`:                         refreshed,
			`count(authsome_credential_expiry_timestamp_seconds)`:                            2,
			`authsome_leaf_cache_entries`:                                                    3,
			`sum(authsome_requests_total{outcome="injected", code_class="5xx"})`:             n,
			map[string]string{
				"native":  `count(authsome_request_duration_seconds_bucket) or vector(0)`, // this version keeps the native ones alone
				"classic": `count(authsome_request_duration_seconds_bucket{le="+Inf"})`,
			}[p.name]: map[string]float64{"native": 0, "classic": 4}[p.name],
		} {
			p.wantNumber(s, expr, want)
		}
	}
	if refreshed < 2 {
		t.Errorf("%v refreshes happened under load, want several", refreshed)
	}
}
