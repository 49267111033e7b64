package pgwal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpost/walpost/relay"
)

// startReplication connects in replication mode and starts the slot's stream from where the slot stands. The connection is given back in
// copy mode and out of pgx's hands, so that one goroutine may read and another write.
func (c Config) startReplication(ctx context.Context) (_ *pgconn.HijackedConn, o relay.Origin, err error) {
	conn, err := c.connectReplication(ctx)
	if err != nil {
		return nil, o, err
	}
	defer func() {
		if err != nil {
			closeConn(ctx, conn)
		}
	}()
	if o, err = identify(ctx, conn, c.Slot); err != nil {
		return nil, o, err
	}
	if err := startCopy(ctx, conn, c.startCommand()); err != nil {
		return nil, o, fmt.Errorf("start slot %s: %w", c.Slot, err)
	}
	wire, err := conn.Hijack()
	return wire, o, err
}

// readBuffer is what one read may bring.
const readBuffer = 128 << 10

func (c Config) connectReplication(ctx context.Context) (*pgconn.PgConn, error) {
	cfg, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return unpolled(conn)
	}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBuffer), w)
	}
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, explainConnect(err, fmt.Sprintf("alter role %s replication", quoteIdentifier(cfg.User)))
	}
	if err := checkPrimary(conn); err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// moveSlot confirms end without a stream. The connection asks who the server is first: a position of another log would be believed too.
func (c Config) moveSlot(ctx context.Context, o relay.Origin, end relay.LSN) error {
	conn, err := c.connectReplication(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	system, timeline, err := identifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	if system != o.SystemID || timeline != o.Timeline {
		return fmt.Errorf("slot %s is not moved to %s: that is a position of system %s timeline %d, and this is system %s timeline %d",
			c.Slot, end, o.SystemID, o.Timeline, system, timeline)
	}
	command := fmt.Sprintf("select pg_replication_slot_advance(%s, %s)", quoteLiteral(c.Slot), quoteLiteral(end.String()))
	_, err = conn.Exec(ctx, command).ReadAll()
	return wrap(err, "move slot "+c.Slot+" to "+end.String())
}

// startCommand is START_REPLICATION at 0/0, which is the slot's own position: the server never complains of a wrong one, it skips.
func (c Config) startCommand() string {
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names %s)",
		quoteIdentifier(c.Slot), quoteLiteral(quoteIdentifier(c.Publication)))
}

// quoteIdentifier and quoteLiteral exist because the replication protocol has no parameters. A publication is quoted twice: it is an
// identifier inside a list inside a string.
func quoteIdentifier(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), `"`, `""`) + `"`
}

func quoteLiteral(s string) string {
	return `'` + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), `'`, `''`) + `'`
}

func identifySystem(ctx context.Context, conn *pgconn.PgConn) (system string, timeline int32, err error) {
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return "", 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return "", 0, errShape
	}
	row := results[0].Rows[0]
	n, err := strconv.ParseInt(string(row[1]), 10, 32)
	return string(row[0]), int32(n), err
}

// startCopy sends a command and waits for copy mode.
func startCopy(ctx context.Context, conn *pgconn.PgConn, command string) error {
	conn.Frontend().SendQuery(&pgproto3.Query{String: command})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(msg)
		}
	}
}
