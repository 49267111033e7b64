package app_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/argon2"

	"github.com/walpost/walpost/app"
)

const goodEmail, goodPassword = "ada@example.com", "this-sample-password"

// memory is a Store that keeps registrations and may be made to fail.
type memory struct {
	err error

	mu   sync.Mutex // guards what follows
	seen []app.Registration
}

func (m *memory) Register(_ context.Context, r app.Registration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, r)
	return m.err
}

func (m *memory) Notification(context.Context, app.NotificationID) (app.Notification, error) {
	return app.Notification{}, app.ErrNotFound
}

func newService(t *testing.T, store app.Store, cfg app.Config) *app.Service {
	t.Helper()
	s, err := app.New(store, cfg)
	if err != nil {
		t.Fatalf("New(%+v) = %v", cfg, err)
	}
	return s
}

func TestRegisterNamesEveryFault(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		email, password string
		want            []string
	}{
		"a short password":               {goodEmail, "short", []string{"password has 5 characters, the least is 15"}},
		"a password of 14 characters":    {goodEmail, strings.Repeat("ä", 14), []string{"password has 14 characters, the least is 15"}},
		"a password of 129 characters":   {goodEmail, strings.Repeat("x", 129), []string{"password has 129 characters, the most is 128"}},
		"a password that is not UTF-8":   {goodEmail, strings.Repeat("x", 20) + "\xff", []string{"password is not valid UTF-8"}},
		"an address and a password, bad": {"ada", "", []string{"email is not an address of the form name@domain", "password has 0 characters, the least is 15"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			_, err := newService(t, store, app.Config{}).Register(t.Context(), tc.email, tc.password)
			var got []string
			for _, f := range app.FieldErrors(fmt.Errorf("wrapped: %w", err)) {
				got = append(got, f.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Register(%q, …) faults (-want +got):\n%s", tc.email, diff)
			}
			if len(store.seen) != 0 {
				t.Errorf("Register(%q, …) recorded %d registrations, want none", tc.email, len(store.seen))
			}
		})
	}
}

func TestRegisterTakesEveryLengthOfPasswordThatIsAllowed(t *testing.T) {
	t.Parallel()
	for name, password := range map[string]string{
		"15 characters":             strings.Repeat("x", 15),
		"128 characters":            strings.Repeat("x", 128),
		"128 characters, 512 bytes": strings.Repeat("🐘", 128),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			if _, err := newService(t, store, app.Config{}).Register(t.Context(), goodEmail, password); err != nil {
				t.Fatalf("Register(…, %d bytes) = %v", len(password), err)
			}
			if got := store.seen[0].PasswordHash; !verifies(t, got, password) || verifies(t, got, password[:len(password)-4]) {
				t.Errorf("PasswordHash %q is not that of the whole password", got)
			}
		})
	}
}

func TestRegisterHashesWithTheParametersOfTheDesign(t *testing.T) {
	t.Parallel()
	store := &memory{}
	service := newService(t, store, app.Config{})
	for range 2 {
		if _, err := service.Register(t.Context(), goodEmail, goodPassword); err != nil {
			t.Fatalf("Register = %v", err)
		}
	}
	phc := regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)
	for _, r := range store.seen {
		if !phc.MatchString(r.PasswordHash) || !verifies(t, r.PasswordHash, goodPassword) {
			t.Errorf("PasswordHash = %q, want a PHC string with m=19456, t=2, p=1 that verifies", r.PasswordHash)
		}
	}
	if store.seen[0].PasswordHash == store.seen[1].PasswordHash || store.seen[0].NotificationID == store.seen[1].NotificationID {
		t.Errorf("two registrations share a salt or a notification id: %+v", store.seen)
	}
}

func TestRegisterReturnsTheErrorOfTheStore(t *testing.T) {
	t.Parallel()
	_, err := newService(t, &memory{err: app.ErrUnavailable}, app.Config{}).Register(t.Context(), goodEmail, goodPassword)
	if !errors.Is(err, app.ErrUnavailable) {
		t.Errorf("Register = %v, want ErrUnavailable", err)
	}
}

// With one place to hash and one to wait, a crowd finds some registrations refused at once, and those that are not are recorded.
func TestRegisterRefusesMoreWorkThanMayWait(t *testing.T) {
	t.Parallel()
	store := &memory{}
	service := newService(t, store, app.Config{HashConcurrency: 1, HashQueue: 1})
	const crowd = 40
	begin := make(chan struct{})
	results := make(chan error, crowd)
	for range crowd {
		go func() {
			<-begin
			_, err := service.Register(t.Context(), goodEmail, goodPassword)
			results <- err
		}()
	}
	close(begin)
	done, busy := 0, 0
	for range crowd {
		switch err := <-results; {
		case err == nil:
			done++
		case errors.Is(err, app.ErrBusy):
			busy++
		default:
			t.Errorf("Register = %v, want nil or ErrBusy", err)
		}
	}
	if done == 0 || busy == 0 || done != len(store.seen) {
		t.Errorf("%d registrations done, %d busy, %d recorded: want some of each, and all done ones recorded", done, busy, len(store.seen))
	}
	t.Logf("%d of %d registrations at once were done, %d were refused", done, crowd, busy)
}

func TestRegisterHashesNothingForWhoHasLeft(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store := &memory{}
	_, err := newService(t, store, app.Config{}).Register(ctx, goodEmail, goodPassword)
	if !errors.Is(err, context.Canceled) || len(store.seen) != 0 {
		t.Errorf("Register(cancelled context) = %v with %d recorded, want context.Canceled and none", err, len(store.seen))
	}
}

func TestNewRefusesNegativeNumbers(t *testing.T) {
	t.Parallel()
	for _, cfg := range []app.Config{{HashConcurrency: -1}, {HashQueue: -1}} {
		if _, err := app.New(&memory{}, cfg); err == nil {
			t.Errorf("New(%+v) = nil, want an error", cfg)
		}
	}
}

// The payload is a contract with consumers: names and their order.
func TestAnnouncementEvent(t *testing.T) {
	t.Parallel()
	var a app.Announcement
	a.UserID.UUID[15], a.NotificationID.UUID[15] = 1, 2
	a.Kind, a.Email = app.KindWelcome, "ada@example.com"
	event, err := a.Event()
	if err != nil {
		t.Fatalf("Event() = %v", err)
	}
	got := []string{event.AggregateType, event.AggregateID, event.Type, string(event.Payload)}
	want := []string{
		"user", "00000000-0000-0000-0000-000000000001", "notif.user.registration",
		`{"notification_id":"00000000-0000-0000-0000-000000000002","user_id":"00000000-0000-0000-0000-000000000001",` +
			`"kind":"welcome","email":"ada@example.com"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Event() (-want +got):\n%s", diff)
	}
}

// verifies reports whether the PHC string is that of the password, reading the string as any other program would.
func verifies(t *testing.T, phc, password string) bool {
	t.Helper()
	var memory, time uint32
	var threads uint8
	parts := strings.Split(phc, "$")
	if len(parts) != 6 {
		t.Fatalf("PHC string %q has %d parts, want 6", phc, len(parts))
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads); err != nil {
		t.Fatalf("PHC parameters %q: %v", parts[3], err)
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(saltErr, keyErr); err != nil {
		t.Fatalf("PHC string %q: %v", phc, err)
	}
	return string(argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(key)))) == string(key)
}

func BenchmarkRegister(b *testing.B) {
	service, err := app.New(&memory{}, app.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := service.Register(b.Context(), goodEmail, goodPassword); err != nil {
			b.Fatal(err)
		}
	}
}
