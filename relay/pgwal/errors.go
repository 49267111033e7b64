package pgwal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
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

// explainConnect says what to do about a refused connection, and slows down where hurry does harm. right is the statement that gives the user
// the right to make it.
func explainConnect(err error, right string) error {
	switch code(err) {
	case "28000", "28P01":
		return &relay.SlowRetry{Err: fmt.Errorf("PostgreSQL refuses the user: look at user, password and pg_hba.conf: %w", err), After: authPause}
	case "42501":
		return &relay.SlowRetry{Err: fmt.Errorf("the user lacks a right: %s: %w", right, err), After: authPause}
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
			readErr = slot.Check()
		}
		if readErr != nil {
			return errors.Join(readErr, err)
		}
	}
	return err
}

// explainStream explains an error that ended the stream behind received.
func (c Config) explainStream(err error, received relay.LSN) error {
	if code(err) == "42704" {
		return c.olderThanPublication(received, err)
	}
	return wrap(err, "the server ended the stream")
}

// olderThanPublication is the halt for rows that were written while there was no publication: a slot reads the catalog as it was then. They lie
// behind received, and all before it is published.
func (c Config) olderThanPublication(received relay.LSN, err error) error {
	return &relay.HaltError{
		Cause: relay.PublicationMissing, From: received,
		Err: fmt.Errorf("publication %q did not exist when a row behind this position was written: %w", c.Publication, err),
		Hint: fmt.Sprintf("%s, unless it is there again; no publication helps slot %s past that row: %s, then append the rows behind this position again that are not on the topic, "+
			"and start the relay again", c.createPublication(), c.Slot, c.skip("pg_current_wal_lsn()")),
	}
}

// createPublication is SQL. A migration makes a publication once: it does not bring back one that was dropped.
func (c Config) createPublication() string {
	return fmt.Sprintf("create publication %s for table %s with (publish = 'insert', publish_via_partition_root = true)", quoteIdentifier(c.Publication), c.Table)
}

// again is how to make a lost slot anew.
func (c Config) again() string {
	return fmt.Sprintf("%s, %s, %s, then append the rows of that stretch again that are not on the topic", c.slotCommand("drop"), c.createCommand("--skip-existing"), c.adoptCommand())
}

// skip is how to leave out what was committed up to a position, an expression of SQL, and is not published yet. A position inside a commit record is enough
// for the server to leave its transaction out.
func (c Config) skip(to string) string {
	return fmt.Sprintf("select pg_replication_slot_advance('%s', %s), then %s", c.Slot, to, c.adoptCommand())
}

// adoptCommand ends what moves the slot or makes it anew: the watermark of exactly once knows nothing of that, and halts the next relay.
func (c Config) adoptCommand() string { return c.slotCommand("adopt") + " if it delivers exactly once" }

func (c Config) slotCommand(verb string) string { return relay.Origin{Slot: c.Slot}.SlotCommand(verb) }

// createCommand is a command as this configuration needs it; what is the default is left out.
func (c Config) createCommand(options ...string) string {
	d := Config{}.withDefaults()
	return strings.Join(append([]string{"walpost slot create"}, options...), " ") +
		flag("slot", c.Slot, d.Slot) + flag("table", c.Table, d.Table) + flag("publication", c.Publication, d.Publication)
}

var plainWord = regexp.MustCompile(`^[\w.-]+$`)

// flag is a flag as a shell takes it.
func flag(name, value, standard string) string {
	switch {
	case value == standard:
		return ""
	case plainWord.MatchString(value):
		return " --" + name + " " + value
	}
	return " --" + name + " '" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
