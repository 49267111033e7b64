package pgwal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// connect opens an ordinary connection, for questions with parameters.
func (c Config) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return conn, explainConnect(err, fmt.Sprintf("grant connect on database %s to %s", quoteIdentifier(cfg.Database), quoteIdentifier(cfg.User)))
}

// errStandbyServer passes when the server is promoted, or the URL leads to another.
var errStandbyServer = errors.New("the server is a standby, and the relay reads from the primary: with several hosts in --database-url, target_session_attrs=primary chooses it")

// checkPrimary is an error for a standby. From PostgreSQL 16 one can be read from, but goes on under the old timeline when it is promoted: positions of
// the new one would pass for others of the old.
func checkPrimary(conn *pgconn.PgConn) error {
	if conn.ParameterStatus("in_hot_standby") == "on" { // told with each connection
		return errStandbyServer
	}
	return nil
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
	t, err := c.lookPublished(ctx, conn, known)
	var halt *relay.HaltError
	if errors.As(err, &halt) && halt.Cause == relay.TableUnpublished {
		// The server looks up the publication with the statement's snapshot and its tables with a newer one: what was dropped in between seems to
		// hold no table. Another look has both behind it.
		return c.lookPublished(ctx, conn, known)
	}
	return t, err
}

func (c Config) lookPublished(ctx context.Context, conn *pgx.Conn, known uint32) (target, error) {
	if err := checkPrimary(conn.PgConn()); err != nil {
		return target{}, err
	}
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
	var inserts, everything, holds, member, leaves bool // leaves: the rows would come under the names of the partitions
	var filter string
	err = conn.QueryRow(ctx, `
		select p.pubinsert, p.puballtables, t.pubname is not null, coalesce(to_jsonb(t)->>'rowfilter', ''),
			p.puballtables or exists (select from pg_publication_rel where prpubid = p.oid and prrelid = $4) or
				exists (select from pg_publication_namespace n join pg_class c on c.relnamespace = n.pnnspid where n.pnpubid = p.oid and c.oid = $4),
			not p.pubviaroot and exists (select from pg_partitioned_table where partrelid = $4)
		from pg_publication p left join pg_publication_tables t on t.pubname = p.pubname and t.schemaname = $2 and t.tablename = $3
		where p.pubname = $1`, c.Publication, t.schema, t.name, t.oid).Scan(&inserts, &everything, &holds, &filter, &member, &leaves)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return target{}, &relay.HaltError{
			Cause: relay.PublicationMissing, Err: fmt.Errorf("publication %q does not exist", c.Publication),
			Hint: c.createPublication() + ", and start again; a slot cannot get past rows that were written meanwhile: the halt then says how to leave them out",
		}
	case err != nil:
		return target{}, fmt.Errorf("look at publication %q: %w", c.Publication, err)
	case !inserts:
		return target{}, &relay.HaltError{
			Cause: relay.PublicationMissing, Err: fmt.Errorf("publication %q does not publish inserts", c.Publication),
			Hint: fmt.Sprintf("alter publication %s set (publish = 'insert')%s", quoteIdentifier(c.Publication), neverSent),
		}
	case !holds:
		return target{}, c.unpublished(fmt.Errorf("publication %q does not publish table %s.%s under its own name", c.Publication, t.schema, t.name), c.publish(t, member, leaves)+neverSent)
	case filter != "":
		return target{}, c.unpublished(fmt.Errorf("publication %q keeps back rows of table %s.%s by its row filter %s", c.Publication, t.schema, t.name, filter),
			c.publishWhole(t)+neverSent)
	case known != 0 && t.oid != known && !everything:
		return target{}, c.unpublished(fmt.Errorf("table %s.%s was dropped and created again: rows may have been written while it was not published", t.schema, t.name),
			"compare the table with the topic, then start the relay again")
	}
	return t, nil
}

// checkColumns is a *relay.HaltError when the publication keeps back a column that the mapping needs. One that the table has lost is none here:
// the log tells, behind what was committed before.
func (c Config) checkColumns(ctx context.Context, conn *pgx.Conn, t target) error {
	var o Outbox
	if err := c.readColumns(ctx, conn, t, &o); err != nil {
		return err
	}
	_, err := c.Mapping.Resolve(o.Columns)
	var missing *record.MissingColumnError
	if !errors.As(err, &missing) {
		return nil
	}
	var there bool
	err = conn.QueryRow(ctx, "select exists (select from pg_attribute where attrelid = $1 and attname = $2 and attnum > 0 and not attisdropped)", t.oid, missing.Column).Scan(&there)
	if err != nil || !there {
		return wrap(err, "look for column "+missing.Column)
	}
	if _, err := c.checkPublished(ctx, conn, t.oid); err != nil { // it was there a moment ago
		return err
	}
	return c.unpublished(fmt.Errorf("publication %q keeps back column %q of table %s.%s", c.Publication, missing.Column, t.schema, t.name), c.publishWhole(t))
}

// publish makes the publication hold the table under its own name.
func (c Config) publish(t target, member, leaves bool) string {
	p := quoteIdentifier(c.Publication)
	var statements []string
	if !member {
		statements = append(statements, fmt.Sprintf("alter publication %s add table %s", p, t.sql()))
	}
	if leaves {
		statements = append(statements, fmt.Sprintf("alter publication %s set (publish_via_partition_root = true)", p))
	}
	if len(statements) == 0 { // no publication can: the table is unlogged, or a partition that is published as a part of its root
		return "name a logged table that is no partition with --table"
	}
	return strings.Join(statements, "; ")
}

// publishWhole publishes all rows and columns of the table. It is one transaction, since rows written between two would be skipped.
func (c Config) publishWhole(t target) string {
	p := quoteIdentifier(c.Publication)
	return fmt.Sprintf("begin; alter publication %s drop table %s; alter publication %s add table %s; commit", p, t.sql(), p, t.sql())
}

// neverSent ends a hint about a publication that kept rows back.
const neverSent = "; rows that were written meanwhile are never sent: append those again that are not on the topic"

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
		return t, c.unpublished(fmt.Errorf("table %s does not exist", c.Table), "walpost migrate up makes it in a new database, --table names another")
	}
	if err != nil {
		return t, fmt.Errorf("look for table %s: %w", c.Table, err)
	}
	return t, nil
}
