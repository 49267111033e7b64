package pgwal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/relay"
)

// connect opens an ordinary connection, for questions with parameters.
func (c Config) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return conn, explainConnect(err)
}

// closeConn closes politely but not for long. The connection is not needed any more, so its error is dropped.
func closeConn(ctx context.Context, conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

// target is the outbox table.
type target struct {
	oid          uint32
	schema, name string
}

// is reports whether a Relation message describes the table. A table that was renamed keeps its OID, one that was dropped and created
// again its name; both may lie in the backlog.
func (t target) is(m relation) bool {
	return m.oid == t.oid || m.schema == t.schema && m.name == t.name
}

// checkPublished returns the outbox table, or a *relay.HaltError when its rows would not reach us: the server would skip them without a
// word. known is the OID that the table had before, or 0.
func (c Config) checkPublished(ctx context.Context, conn *pgx.Conn, known uint32) (target, error) {
	var level string
	err := conn.QueryRow(ctx, "select coalesce(current_setting('effective_wal_level', true), current_setting('wal_level'))").Scan(&level)
	if err != nil {
		return target{}, fmt.Errorf("read wal_level: %w", err)
	}
	if level != "logical" {
		return target{}, &relay.HaltError{
			Cause: relay.SlotMissing, Err: fmt.Errorf("wal_level is %s, so that this server has no logical replication slots", level),
			Hint: "alter system set wal_level = 'logical', restart PostgreSQL, start the relay again",
		}
	}
	t, err := c.findTable(ctx, conn, known)
	if err != nil {
		return target{}, err
	}
	var inserts, everything, holds bool
	err = conn.QueryRow(ctx, `
		select p.pubinsert, p.puballtables, exists (
			select from pg_publication_tables t where t.pubname = p.pubname and t.schemaname = $2 and t.tablename = $3)
		from pg_publication p where p.pubname = $1`, c.Publication, t.schema, t.name).Scan(&inserts, &everything, &holds)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return target{}, &relay.HaltError{
			Cause: relay.PublicationMissing, Err: fmt.Errorf("publication %q does not exist", c.Publication), Hint: "walpost migrate up",
		}
	case err != nil:
		return target{}, fmt.Errorf("look at publication %q: %w", c.Publication, err)
	case !inserts:
		return target{}, &relay.HaltError{
			Cause: relay.PublicationMissing, Err: fmt.Errorf("publication %q does not publish inserts", c.Publication),
			Hint: fmt.Sprintf("alter publication %s set (publish = 'insert')", quoteIdentifier(c.Publication)),
		}
	case !holds:
		return target{}, c.unpublished(fmt.Errorf("publication %q does not publish table %s.%s under its own name", c.Publication, t.schema, t.name),
			fmt.Sprintf("alter publication %s add table %s, and for a partitioned table set (publish_via_partition_root = true)",
				quoteIdentifier(c.Publication), t.sql()))
	case known != 0 && t.oid != known && !everything:
		return target{}, c.unpublished(fmt.Errorf("table %s.%s was dropped and created again: rows may have been written while it was not published", t.schema, t.name),
			"compare the table with the topic, then start the relay again")
	}
	return t, nil
}

func (c Config) unpublished(err error, hint string) error {
	return &relay.HaltError{Cause: relay.TableUnpublished, Err: err, Hint: hint}
}

// sql is the table's name as a part of a statement.
func (t target) sql() string { return pgx.Identifier{t.schema, t.name}.Sanitize() }

// findTable looks for the table by the OID it had, since it may have been renamed, and then by name.
func (c Config) findTable(ctx context.Context, conn *pgx.Conn, known uint32) (t target, err error) {
	err = conn.QueryRow(ctx, `
		select c.oid, n.nspname, c.relname
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = $1 or c.oid = to_regclass($2)
		order by c.oid <> $1 limit 1`, known, c.Table).Scan(&t.oid, &t.schema, &t.name)
	if errors.Is(err, pgx.ErrNoRows) || code(err) == "42601" || code(err) == "42602" { // or the name is none
		return t, c.unpublished(fmt.Errorf("table %s does not exist", c.Table), "walpost migrate up")
	}
	if err != nil {
		return t, fmt.Errorf("look for table %s: %w", c.Table, err)
	}
	return t, nil
}
