package pgwal

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/record"
)

// Outbox is the outbox table as whoever reads the publication sees it.
type Outbox struct {
	Schema, Table string          // as PostgreSQL stores them
	Columns       []record.Column // those that are published
	Defaulted     []string        // the ones among them that may be NULL and have a default
}

// Column returns the column of that name.
func (o Outbox) Column(name string) (record.Column, bool) {
	for _, c := range o.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return record.Column{}, false
}

// ReadOutbox looks at the table and returns a *relay.HaltError when its rows would not reach a reader: the server would skip them without a word. It
// needs no slot, so that it can be asked before there is one, and on behalf of other readers.
func ReadOutbox(ctx context.Context, cfg Config) (o Outbox, err error) {
	err = withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error {
		t, err := cfg.checkPublished(ctx, conn, 0)
		if err != nil {
			return err
		}
		o = Outbox{Schema: t.schema, Table: t.name}
		return cfg.readColumns(ctx, conn, t, &o)
	})
	return o, err
}

// readColumns asks by way of JSON for the publication's list of columns, which PostgreSQL 14 lacks. It names generated columns before 18 too, which
// sends them if asked to.
func (c Config) readColumns(ctx context.Context, conn *pgx.Conn, t target, o *Outbox) error {
	rows, err := conn.Query(ctx, `
		select a.attname::text, a.atttypid, a.atthasdef and a.attgenerated = '' and not a.attnotnull
		from pg_attribute a join pg_publication_tables p on p.pubname = $2 and p.schemaname = $3 and p.tablename = $4
		where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
			and coalesce(to_jsonb(p)->'attnames' ? a.attname, true)
			and (a.attgenerated = '' or current_setting('server_version_num')::int >= 180000)
		order by a.attnum`, t.oid, c.Publication, t.schema, t.name)
	if err != nil {
		return wrap(err, "read the columns of table "+c.Table)
	}
	var column record.Column
	var defaulted bool
	_, err = pgx.ForEachRow(rows, []any{&column.Name, &column.TypeOID, &defaulted}, func() error {
		o.Columns = append(o.Columns, column)
		if defaulted {
			o.Defaulted = append(o.Defaulted, column.Name)
		}
		return nil
	})
	return wrap(err, "read the columns of table "+c.Table)
}
