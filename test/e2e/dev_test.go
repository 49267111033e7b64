package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDevShowsTheWholeWay is the first thing a newcomer does: start it, register, see the mail, stop it, start it again.
func TestDevShowsTheWholeWay(t *testing.T) {
	dir := dataDir(t)
	api, page := address(t), address(t)
	args := append(devPorts(t, api, page), "--data-dir", dir)

	begin := time.Now()
	dev := start(t, args...)
	dev.line(t, "the sample registration's arrival", 60*time.Second, func(line string) bool {
		return strings.HasPrefix(line, "Sample registration delivered in ")
	})
	first := time.Since(begin)

	id := register(t, api, "grace@example.com")
	registered := time.Now()
	eventually(t, "the notification is SENT", 20*time.Second, func(ctx context.Context) error {
		return expectBody(ctx, "http://"+api+"/api/v1/notifications/"+id, `"SENT"`)
	})
	sent := time.Since(registered)
	eventually(t, "the mail is on the page", 20*time.Second, func(ctx context.Context) error {
		return errors.Join(expectBody(ctx, "http://"+page+"/mails", "grace@example.com"), expectBody(ctx, "http://"+page+"/", "notif.user.registration"))
	})
	dev.interrupt(t, stopWithin())

	begin = time.Now()
	again := start(t, args...)
	again.line(t, "the data of the first run", 60*time.Second, func(line string) bool { return strings.HasPrefix(line, "continuing: 2 events") })
	id = register(t, api, "alan@example.com")
	eventually(t, "the first notification of the second run is SENT", 20*time.Second, func(ctx context.Context) error {
		return expectBody(ctx, "http://"+api+"/api/v1/notifications/"+id, `"SENT"`)
	})
	second := time.Since(begin)
	again.kill()

	recovered := start(t, args...)
	recovered.line(t, "the data after kill -9", 60*time.Second, func(line string) bool { return strings.HasPrefix(line, "continuing: 3 events") })
	id = register(t, api, "edsger@example.com")
	eventually(t, "a notification is SENT after kill -9", 20*time.Second, func(ctx context.Context) error {
		return expectBody(ctx, "http://"+api+"/api/v1/notifications/"+id, `"SENT"`)
	})
	recovered.interrupt(t, stopWithin())
	if left := processesOn(t, dir); len(left) > 0 {
		t.Errorf("processes left on %s: %v", dir, left)
	}
	fmt.Printf("counts: dev first start to delivered %.1f s, registration to SENT %.2f s, second start to delivered %.1f s\n", first.Seconds(), sent.Seconds(), second.Seconds())
}

// stopWithin is what dev promises for Ctrl-C; a machine of CI, which runs other packages meanwhile, may take longer.
func stopWithin() time.Duration {
	if os.Getenv("CI") == "true" {
		return 20 * time.Second
	}
	return 5 * time.Second
}

func devPorts(t *testing.T, api, page string) []string {
	return []string{
		"dev", "--addr", api, "--console-addr", page, "--kafka-addr", address(t), "--postgres-addr", address(t),
		"--smtp-addr", address(t), "--ops-addr", address(t),
	}
}

// dataDir is a folder that PostgreSQL's user can reach, which t.TempDir is not when root runs the tests.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "walpost-dev-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "data")
}

func register(t *testing.T, api, email string) (notification string) {
	t.Helper()
	body := fmt.Sprintf(`{"email":%q,"password":"a-long-enough-password"}`, email)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+api+"/api/v1/users", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		t.Fatalf("POST /api/v1/users = %s, want 202", response.Status)
	}
	var answer struct {
		NotificationID string `json:"notification_id"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.NotificationID
}

func expectBody(ctx context.Context, url, want string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if !strings.Contains(string(body), want) {
		return fmt.Errorf("GET %s: %s has no %q", url, response.Status, want)
	}
	return nil
}

// processesOn lists the ids of processes whose command line names the folder.
func processesOn(t *testing.T, dir string) (ids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err == nil && strings.Contains(string(content), dir) {
			ids = append(ids, filepath.Base(filepath.Dir(path)))
		}
	}
	return ids
}
