package pgwal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/record"
)

// ApplicationName is how PostgreSQL's views show the relay's sessions.
const ApplicationName = "walpost"

// Config says what to read and how. URL is needed, everything else has a default.
type Config struct {
	// URL is the connection string of the database that holds the outbox, as pgx takes it. The user needs the attribute REPLICATION and the
	// right to connect; for streaming, no right on any table. A connection pooler in between must pass the replication protocol on.
	URL string

	// Slot is the replication slot: lower-case letters, digits and underscores, up to 63. Defaults to walpost.
	Slot string

	// Publication must publish inserts into Table, through the partition root if Table is partitioned. Defaults to walpost_outbox.
	Publication string

	// Table is the outbox, with or without a schema, written as in SQL. Defaults to outbox_events.
	Table string

	// Mapping says which column becomes which part of the record. Defaults to the mapping of walpost's own table.
	Mapping record.Mapping

	// RequireSlot makes a missing slot halt the relay in any case. By default it is created when that skips no committed row.
	RequireSlot bool

	// DeadLetters hands a row that can never become a record on as an event that is dead (relay.Event.Dead), for a Sink that has a place for it. Defaults to
	// false: such a row halts the relay.
	DeadLetters bool

	// QueueBytes bounds the events that wait to be published, the ones in flight included; a single event may exceed it. Defaults to 2 MiB.
	QueueBytes int64

	// BatchBytes and BatchEvents bound a batch, and with it what a transaction may hold in memory before its end. BatchBytes is at most
	// half of QueueBytes. They default to 1 MiB and 5,000.
	BatchBytes  int64
	BatchEvents int

	// SenderTimeout is the wal_sender_timeout of this connection: the server gives up on a relay that is silent for so long, and the relay
	// on such a server after twice that; a standby takes over after it. Defaults to 10 s.
	SenderTimeout time.Duration

	// ConnectTimeout bounds each attempt to connect. Defaults to 10 s.
	ConnectTimeout time.Duration

	// CheckInterval is how often the publication is looked at while streaming. Defaults to 1 min.
	CheckInterval time.Duration

	// Logger gets what an operator wants to know and no error tells. Defaults to none.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Slot = cmp.Or(c.Slot, "walpost")
	c.Publication = cmp.Or(c.Publication, "walpost_outbox")
	c.Table = cmp.Or(c.Table, "outbox_events")
	c.QueueBytes = cmp.Or(c.QueueBytes, 2<<20)
	c.BatchBytes = cmp.Or(c.BatchBytes, min(1<<20, c.QueueBytes/2))
	c.BatchEvents = cmp.Or(c.BatchEvents, 5000)
	c.SenderTimeout = cmp.Or(c.SenderTimeout, 10*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 10*time.Second)
	c.CheckInterval = cmp.Or(c.CheckInterval, time.Minute)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (c Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("the URL of the database is missing")
	case !slotName.MatchString(c.Slot):
		return fmt.Errorf("slot name %q: want 1 to 63 of a-z 0-9 _", c.Slot)
	case len(c.Publication) > 63:
		return fmt.Errorf("publication name %q is longer than 63 bytes", c.Publication)
	case c.BatchBytes < 1 || c.BatchBytes > c.QueueBytes/2:
		return fmt.Errorf("batches of %d bytes do not fit twice into a queue of %d", c.BatchBytes, c.QueueBytes)
	case c.BatchEvents < 1:
		return errors.New("a batch must hold at least one event")
	case c.SenderTimeout < 100*time.Millisecond || c.ConnectTimeout < 0 || c.CheckInterval < 0:
		return errors.New("timeouts must not be negative, and SenderTimeout not below 100 ms")
	}
	if err := c.Mapping.Validate(); err != nil {
		return err
	}
	_, err := c.parseURL()
	return err
}

// statusInterval is how often the server hears from us without being told anything new.
func (c Config) statusInterval() time.Duration { return min(10*time.Second, c.SenderTimeout/3) }

// parseURL is the configuration of every connection. The text forms of values are fixed here: what a database or a role has set must neither
// change the bytes of an event nor hide a warning from us.
func (c Config) parseURL() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, err // pgx has left the password out
	}
	cfg.ConnectTimeout = c.ConnectTimeout
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	fixed := map[string]string{
		"application_name":    ApplicationName,
		"client_encoding":     "UTF8",
		"client_min_messages": "notice",
		"DateStyle":           "ISO",
		"IntervalStyle":       "postgres",
		"TimeZone":            "UTC",
		"bytea_output":        "hex",
		"extra_float_digits":  "1",
		"lc_monetary":         "C",
		"row_security":        "off", // a row that is hidden from us must be an error, not one row less
		"statement_timeout":   "0",   // making a slot waits for other transactions
		"lock_timeout":        "0",   // and it waits for locks of theirs
		"wal_sender_timeout":  strconv.FormatInt(c.SenderTimeout.Milliseconds(), 10),
	}
	for name := range cfg.RuntimeParams { // the server ignores their case
		for own := range fixed {
			if strings.EqualFold(name, own) {
				delete(cfg.RuntimeParams, name)
			}
		}
	}
	maps.Copy(cfg.RuntimeParams, fixed)
	cfg.AfterConnect = c.settle
	return cfg, nil
}

// settle fixes the setting that cannot be sent with the connection, since servers before PostgreSQL 17 refuse what they do not know. Making a slot and
// sending a transaction take for as long as others do, and both are transactions of the server's own.
func (c Config) settle(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, "select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout'").ReadAll()
	return err
}
