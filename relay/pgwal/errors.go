package pgwal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/relay"
)

// authPause keeps a wrong password from locking the account.
const authPause = time.Minute

// code is the SQLSTATE of err, or "". Messages differ between versions and languages, so nothing is ever decided by text.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explainConnect says what to do about a refused connection, and slows down where hurry does harm.
func explainConnect(err error) error {
	switch code(err) {
	case "28000", "28P01":
		return &relay.SlowRetry{Err: fmt.Errorf("PostgreSQL refuses the user: look at user, password and pg_hba.conf: %w", err), After: authPause}
	case "42501":
		return &relay.SlowRetry{Err: fmt.Errorf("the user may not replicate: alter role … replication: %w", err), After: authPause}
	case "53300":
		return &relay.SlowRetry{Err: fmt.Errorf("PostgreSQL has no connection left: look at max_connections and max_wal_senders: %w", err), After: 5 * time.Second}
	}
	return wrap(err, "connect to PostgreSQL")
}

// explainStart tells a slot that another relay holds from one that is gone.
func (c Config) explainStart(ctx context.Context, admin *pgx.Conn, err error) error {
	switch code(err) {
	case "55006":
		return fmt.Errorf("%w: %w", relay.ErrStandby, err)
	case "42704":
		return c.missingSlot(err)
	case "55000": // several causes share it; the catalog knows which
		slot, readErr := c.readSlot(ctx, admin)
		if readErr == nil {
			readErr = slot.check()
		}
		if readErr != nil {
			return errors.Join(readErr, err)
		}
	}
	return err
}

// explainStream explains an error that ended the stream during the transaction at lsn.
func (c Config) explainStream(err error, lsn relay.LSN) error {
	if code(err) == "42704" {
		return c.olderThanPublication(lsn, err)
	}
	return wrap(err, "the server ended the stream")
}

// olderThanPublication is the halt for rows that were written while there was no publication: a slot reads the catalog as it was then.
func (c Config) olderThanPublication(lsn relay.LSN, err error) error {
	return &relay.HaltError{
		Cause: relay.PublicationMissing, From: lsn, Err: fmt.Errorf("publication %q did not exist when a row was written: %w", c.Publication, err),
		Hint: "walpost migrate up; if the publication is younger than slot " + c.Slot + ", walpost slot drop and walpost slot create --skip-existing as well",
	}
}
