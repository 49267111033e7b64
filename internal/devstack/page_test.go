package devstack_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/outbox"
)

func TestBadEndsAndSecondCopiesAreShown(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	twice, dead, failed := w.append(t, nil), w.append(t, nil), w.append(t, nil)
	w.publish(t, twice, topic)
	w.publish(t, twice, topic)
	w.apply(t, twice, "", "")
	w.publish(t, dead, topic)
	w.publish(t, dead, deadLetters)
	w.apply(t, dead, "", "")
	w.apply(t, failed, "failed", "FAILED")
	st := w.eventually(t, "all records are read", func(st devstack.Status) bool {
		return len(st.Events) == 3 && st.Events[2].Copies == 2 && st.Events[1].DeadLetter != ""
	})
	var got []devstack.State
	for _, e := range st.Events {
		got = append(got, e.State)
	}
	if diff := cmp.Diff([]devstack.State{devstack.Failed, devstack.DeadLetter, devstack.Applied}, got); diff != "" {
		t.Errorf("states, newest first (-want +got):\n%s", diff)
	}
	_, body, _ := w.get(t, "/")
	for _, want := range []string{"published 2 times, applied once", "dead letter", "no payload (tombstone)", "✕"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestHostileTextIsInert(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	payload, err := json.Marshal(map[string]string{"name": hostile, "bidi": "\u202egnp.exe"})
	if err != nil {
		t.Fatal(err)
	}
	id := w.append(t, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(payload)))
	w.exec(t, `update outbox_events set aggregate_id = $1, aggregate_type = $1`, hostile)
	send(t, w.mails, "Subject: "+hostile+"\r\nFrom: "+hostile+"\r\nMessage-ID: <"+hostile+">\r\n\r\n"+hostile+"\r\n")
	w.eventually(t, "the mail is there", func(st devstack.Status) bool { return st.Mails == 1 })
	for _, path := range []string{"/", "/events/" + id.String(), "/mails", "/mails/1", "/no/" + strings.ReplaceAll(hostile, " ", "%20")} {
		_, body, _ := w.get(t, path)
		for _, bad := range []string{"<img", "<script>alert"} {
			if strings.Contains(body, bad) {
				t.Errorf("GET %s has markup from outside: %q", path, bad)
			}
		}
		if !strings.HasPrefix(path, "/no/") && !strings.Contains(body, "&lt;img src=x onerror=") {
			t.Errorf("GET %s does not show the text", path)
		}
	}
}

func TestEveryAnswerIsClosedToForeignContentAndFrames(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
			"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
		"X-Content-Type-Options": "nosniff",
		"Referrer-Policy":        "no-referrer",
		"Cache-Control":          "no-store",
	}
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/mails": "text/html; charset=utf-8", "/nowhere": "text/html; charset=utf-8",
		"/status.json": "application/json", "/style.css": "text/css; charset=utf-8", "/live.js": "text/javascript; charset=utf-8",
	} {
		_, body, header := w.get(t, path)
		got := map[string]string{}
		for name := range want {
			got[name] = header.Get(name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GET %s (-want +got):\n%s", path, diff)
		}
		if got := header.Get("Content-Type"); got != contentType {
			t.Errorf("GET %s: Content-Type = %q, want %q", path, got, contentType)
		}
		for _, foreign := range []string{"https://", "style=", "onclick="} {
			if strings.Contains(body, foreign) {
				t.Errorf("GET %s contains %q", path, foreign)
			}
		}
	}
}

func TestOnlyNamesOfThisMachineAreAnswered(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	for host, want := range map[string]int{
		"127.0.0.1:8090": http.StatusOK, "localhost:8090": http.StatusOK, "[::1]:8090": http.StatusOK, "localhost": http.StatusOK, "[::1]": http.StatusOK,
		"evil.example:8090": http.StatusMisdirectedRequest, "10.0.0.7:8090": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
		"localhost.evil.example": http.StatusMisdirectedRequest,
	} {
		code, body, _ := w.getAs(t, host, "/status.json")
		if code != want {
			t.Errorf("GET with Host %q = %d, want %d", host, code, want)
		}
		if want != http.StatusOK && strings.Contains(body, "events") {
			t.Errorf("GET with Host %q shows the status", host)
		}
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	for path, want := range map[string]string{
		"/events/" + outbox.NewID().String(): "no event",
		"/events/nonsense":                   "An event id is a UUID",
		"/mails/7":                           "no such mail",
		"/mails/x":                           "no such mail",
		"/nowhere":                           "no page here",
	} {
		code, body, _ := w.get(t, path)
		if code != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d, want 404 with %q", path, code, want)
		}
	}
	if _, body, _ := w.get(t, "/"); !strings.Contains(body, "Nothing has been appended yet") || !strings.Contains(body, "curl -i 127.0.0.1:5001") {
		t.Error("the empty page does not say what to do")
	}
}

func TestASourceThatFailsIsNamedAndTheOthersAreShown(t *testing.T) {
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		w := setupPage(t)
		w.publish(t, outbox.NewID(), topic)
		w.pool.Close()
		st := w.status(t)
		if len(st.Problems) != 1 || !strings.HasPrefix(st.Problems[0], "PostgreSQL: ") || st.Kafka.Records != 1 {
			t.Errorf("status without PostgreSQL = %+v", st)
		}
		if code, body, _ := w.get(t, "/"); code != http.StatusOK || !strings.Contains(body, "Not available.") {
			t.Errorf("page without PostgreSQL = %d: %s", code, body)
		}
		if code, _, _ := w.get(t, "/events/"+outbox.NewID().String()); code != http.StatusServiceUnavailable {
			t.Errorf("event without PostgreSQL = %d, want 503", code)
		}
	})
	t.Run("the broker", func(t *testing.T) {
		t.Parallel()
		w := setupPage(t)
		w.append(t, `{}`)
		if err := w.broker.Close(); err != nil {
			t.Fatal(err)
		}
		st := w.status(t)
		if len(st.Problems) != 1 || !strings.HasPrefix(st.Problems[0], "Broker: ") || len(st.Events) != 1 {
			t.Errorf("status without the broker = %+v", st)
		}
	})
}
