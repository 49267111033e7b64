package notify_test

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/internal/pgtest"
)

// The database dies when the mail server has the mail and before that could be written down, and comes back: the mail is not
// sent twice, and the worker goes on, listening again.
func TestWorkerOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	database := pgtest.StartServer(t)
	b := &bundle{t, pgtest.Pool(t, database.Migrated(t))}
	taken := make(chan struct{})
	server := &mailServer{onData: func(n int, _ received, _ net.Conn) error {
		if n == 1 {
			database.Kill9(t)
			close(taken)
		}
		return nil
	}}
	cfg := quick(server.start(t, anyPort))
	cfg.Lease = time.Hour
	first := b.record(app.KindWelcome)
	run(t, b.pool, cfg)
	receive(t, "the mail that the database does not survive", taken)
	database.Start(t)
	b.wait(first, "sent 1 SENT")
	second := b.record(app.KindWelcome)
	b.wait(second, "sent 1 SENT")
	if diff := cmp.Diff([]string{messageID(first), messageID(second)}, ids(server.received())); diff != "" {
		t.Errorf("Message-IDs (-want +got):\n%s", diff)
	}
}
