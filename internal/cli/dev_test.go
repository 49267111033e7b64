package cli_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack"
)

// devVarying is what differs between machines in the banner.
var devVarying = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`walpost \S+ dev: PostgreSQL [\d.]+ \(.*?\), `), "walpost VERSION dev: PostgreSQL VERSION (ORIGIN), "},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`/\S*/walpost-dev-\d+`), "DIR"},
	{regexp.MustCompile(`in \d+ ms`), "in N ms"},
	{regexp.MustCompile(`events/[0-9a-f-]{36}`), "events/ID"},
	{regexp.MustCompile(` {2,}`), "  "},
}

const wantBanner = `walpost VERSION dev: PostgreSQL VERSION (ORIGIN), development broker (not Kafka)
  Console  http://HOST:PORT
  API  http://HOST:PORT/api/v1  docs http://HOST:PORT/docs
  Kafka  HOST:PORT
  Postgres  postgres://walpost@HOST:PORT/walpost
  Metrics  http://HOST:PORT/metrics
  Mail  http://HOST:PORT/mails  nothing leaves, SMTP HOST:PORT
  Data  DIR  empty it: go run . dev --reset --data-dir DIR
Try  curl -i HOST:PORT/api/v1/users -H 'Content-Type: application/json' \
  -d '{"email":"ada@example.com","password":"this-sample-password"}'
Stop  Ctrl-C
`

// The tests that run a whole dev are not parallel: they hold it to its times, and eight of them at once would only measure each other.

func TestTheFirstRunOfDevDeliversASampleAndTheSecondGoesOn(t *testing.T) {
	dir := devDir(t)
	first := startDev(t, dir)
	first.until(t, "the sample", func() bool { return strings.Contains(first.stdout.String(), "Sample registration") })
	said := first.stdout.String()
	if got := strings.Count(said, "\n"); got > 12 {
		t.Errorf("banner and sample = %d lines, want at most 12", got)
	}
	if diff := cmp.Diff(wantBanner+"Sample registration delivered in N ms: http://HOST:PORT/events/ID\n", vary(said)); diff != "" {
		t.Errorf("first run (-want +got):\n%s", diff)
	}
	page := fetch(t, regexp.MustCompile(`http://\S+/events/\S+`).FindString(said))
	if !strings.Contains(page, "delivered") || !strings.Contains(page, "sample@example.com") {
		t.Errorf("the sample's page does not show it delivered:\n%s", page)
	}
	database := postmaster(t, dir)
	stopsCleanly(t, first, database)

	second := startDev(t, dir)
	second.until(t, "the line of a second run", func() bool { return strings.Contains(second.stdout.String(), "continuing") })
	if diff := cmp.Diff(wantBanner+"continuing: 1 event, 0 dead letters\n", vary(second.stdout.String())); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}
	stopsCleanly(t, second, 0)
}

func vary(text string) string {
	for _, v := range devVarying {
		text = v.pattern.ReplaceAllString(text, v.text)
	}
	return text
}

// stopsCleanly interrupts dev and checks that it ends in good order, in time, and with its database server.
func stopsCleanly(t *testing.T, p *devProcess, database int) {
	t.Helper()
	code, took := p.interrupt(t)
	if tooBusy(t, p, took) {
		return
	}
	if code != 0 || took > stopWithin() {
		t.Errorf("dev ended with code %d after %v, want 0 within %v", code, took, stopWithin())
	}
	if got := p.stderr.String(); strings.Contains(got, "walpost: ") {
		t.Errorf("dev stopped with a complaint: %s", got)
	}
	if database != 0 && runs(database) {
		t.Errorf("the database server, process %d, still runs", database)
	}
}

// stopWithin is what dev promises for its stop; a machine of CI, which runs other packages meanwhile, may take longer.
func stopWithin() time.Duration {
	if os.Getenv("CI") == "true" {
		return 20 * time.Second
	}
	return 5 * time.Second
}

// tooBusy reports that dev, on a machine of CI, used up the time that it gives itself for a stop and said so, which is all it can do there.
func tooBusy(t *testing.T, p *devProcess, took time.Duration) bool {
	t.Helper()
	said := p.stderr.String()
	busy := os.Getenv("CI") == "true" && took > 4*time.Second && strings.Contains(said, "not stopped in time")
	if busy {
		t.Logf("dev stopped after %v, on a machine that is too busy to hold it to its time: %s", took, said)
	}
	return busy
}

func TestEventsGoThroughDev(t *testing.T) {
	p := startDev(t, devDir(t), "--json")
	b := p.banner(t)
	if st := devStatus(t, b.Console); !st.Slot.Active {
		t.Errorf("slot when the banner came = %+v, want the relay to read it: it would skip what is registered before", st.Slot)
	}
	if b.PID != p.Process.Pid || !b.FirstRun || b.Recovered {
		t.Errorf("banner = %+v, want the first run of process %d", b, p.Process.Pid)
	}
	e := register(t, b, "grace@example.com")
	if e.Topic != "notif.user.registration" || e.LSN == "" || e.Copies != 1 || e.MailNumber == 0 || e.Notification != "SENT" {
		t.Errorf("event = %+v, want it published once with its LSN, and its mail in the sink", e)
	}
	st := devStatus(t, b.Console)
	if !st.Slot.Healthy() || len(st.Problems) > 0 {
		t.Errorf("slot = %+v, problems = %v, want a relay that reads and no problems", st.Slot, st.Problems)
	}
	stopsCleanly(t, p, 0)
}

func TestAKilledDevRecovers(t *testing.T) {
	dir := devDir(t)
	p := startDev(t, dir, "--output", "json")
	first := p.banner(t)
	register(t, first, "grace@example.com")
	p.until(t, "the sample's delivery", func() bool { // its mail would have to wait for the killed worker's lease
		return slices.ContainsFunc(devStatus(t, first.Console).Events, func(e devstack.Event) bool {
			return e.Recipient == "sample@example.com" && e.State == devstack.Delivered
		})
	})
	database := postmaster(t, dir)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.exit(t)

	again := startDev(t, dir, "--json")
	b := again.banner(t)
	if !b.Recovered || b.FirstRun || b.Events < 1 {
		t.Errorf("banner after kill -9 = %+v, want it recovered, with the events of before", b)
	}
	if got := again.stderr.String(); strings.Count(got, "recovering: process ") != 1 { // slow steps may be told as well
		t.Errorf("stderr after kill -9 = %q, want one line about the killed process", got)
	}
	awaitEnd(t, database)
	if e := register(t, b, "after@example.com"); e.Copies != 1 {
		t.Errorf("event after recovery = %+v", e)
	}
	for _, e := range devStatus(t, b.Console).Events {
		if e.State != devstack.Delivered || e.Copies != 1 {
			t.Errorf("event of %s is %s after recovery, published %d times, want delivered and once", e.Recipient, e.State, e.Copies)
		}
	}
}

func TestASecondDevOnTheSameDataIsRefused(t *testing.T) {
	dir := devDir(t)
	p := startDev(t, dir, "--json")
	b := p.banner(t)
	for _, args := range [][]string{nil, {"--reset", "--yes"}} {
		got := walpost(t, nil, devArgs(t, dir, args...)...)
		if got.code != 5 || !strings.Contains(got.stderr, "another dev is running") ||
			!strings.Contains(got.stderr, " in use by process "+strconv.Itoa(p.Process.Pid)+", "+b.Console) {
			t.Errorf("second dev %v = code %d: %s, want 5 and process %d at %s", args, got.code, got.stderr, p.Process.Pid, b.Console)
		}
	}
	if got := devStatus(t, b.Console); len(got.Problems) > 0 {
		t.Errorf("the first dev afterwards has problems: %v", got.Problems)
	}
}

func TestAllBusyPortsOfDevAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	var taken []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken = append(taken, l.Addr().String())
	}
	dir := t.TempDir()
	got := walpost(t, nil, devArgs(t, dir, "--console-addr", taken[0], "--postgres-addr", taken[1])...)
	if got.code != 5 {
		t.Errorf("exit code = %d, want 5", got.code)
	}
	for _, flag := range []string{"--console-addr", "--postgres-addr"} {
		if !strings.Contains(got.stderr, "choose another with "+flag+" 127.0.0.1:") {
			t.Errorf("stderr = %q, want a line with %s", got.stderr, flag)
		}
	}
	if strings.Count(got.stderr, "\n") != 2 || !strings.Contains(got.stderr, "(process ") {
		t.Errorf("stderr = %q, want a line for each port, with the process that holds it", got.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
		t.Error("something was started before the ports were known to be free")
	}
}

func TestAddressesThatOthersReachAreRefused(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--console-addr", "--kafka-addr", "--postgres-addr", "--smtp-addr", "--ops-addr"} {
		got := walpost(t, nil, devArgs(t, t.TempDir(), flag, "0.0.0.0:18099")...)
		if got.code != 2 || !strings.Contains(got.stderr, flag+" 0.0.0.0:18099 would be reachable from other machines") {
			t.Errorf("dev %s 0.0.0.0:18099 = code %d: %s, want 2", flag, got.code, got.stderr)
		}
	}
}

func TestResetSaysWhatItDeletesAndAsks(t *testing.T) {
	dir := devDir(t)
	keep := filepath.Join(dir, "letter.txt")
	for _, path := range []string{keep, filepath.Join(dir, "postgres", "x"), filepath.Join(dir, "kafka", "x")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := walpost(t, nil, devArgs(t, dir, "--reset")...)
	if got.code != 2 || !strings.Contains(got.stderr, filepath.Join(dir, "postgres")+", "+filepath.Join(dir, "kafka")) || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("dev --reset without a terminal = code %d: %s, want 2, the folders and --yes", got.code, got.stderr)
	}
	for _, path := range []string{"postgres/x", "kafka/x", "letter.txt"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Errorf("after a refused reset: %v", err)
		}
	}
	p := startDev(t, dir, "--reset", "--yes", "--json")
	if b := p.banner(t); !b.FirstRun {
		t.Errorf("banner after a reset = %+v, want a first run", b)
	}
	if _, err := os.Stat(filepath.Join(dir, "kafka", "x")); err == nil {
		t.Error("the reset left the broker's data")
	}
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("the reset took a file that is not dev's: %v", err)
	}
}

func TestAPartThatFailsStopsEverythingAndIsNamed(t *testing.T) {
	dir := devDir(t)
	p := startDev(t, dir, "--json")
	b := p.banner(t)
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t); code != 1 {
		t.Errorf("exit code = %d, want 1", code)
	}
	if got := p.stderr.String(); !strings.Contains(got, "walpost: PostgreSQL: ended by itself") || !strings.Contains(got, "postgres.log") {
		t.Errorf("stderr = %q, want the part and its log", got)
	}
	if _, _, err := tryAsk(t, http.MethodGet, b.Console, ""); err == nil {
		t.Error("the page is still served")
	}
}

func TestASecondInterruptEndsDevAtOnceAndWithItsDatabase(t *testing.T) {
	dir := devDir(t)
	p := startDev(t, dir, "--json")
	p.banner(t)
	database := postmaster(t, dir)
	for range 2 {
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.exit(t); code != 130 && code != 0 { // 0: the stop was faster than the second signal
		t.Errorf("exit code = %d, want 130", code)
	}
	awaitEnd(t, database)
}

func TestQuietDevSaysNothing(t *testing.T) {
	p := startDev(t, devDir(t), "--quiet", "--console-addr", closedPort(t))
	console := "http://" + p.flag("--console-addr")
	p.until(t, "the sample's mail", func() bool {
		code, _, err := tryAsk(t, http.MethodGet, console+"/mails/1", "")
		return err == nil && code == http.StatusOK
	})
	if code, _ := p.interrupt(t); code != 0 {
		t.Errorf("exit code = %d, want 0", code)
	}
	if out, talk := p.stdout.String(), p.stderr.String(); out != "" || talk != "" {
		t.Errorf("stdout = %q, stderr = %q, want nothing", out, talk)
	}
}
