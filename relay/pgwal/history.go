package pgwal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/relay"
)

// identify asks a replication connection who the server is, and which timelines lead to the one that it is on. See
// https://www.postgresql.org/docs/current/protocol-replication.html.
func identify(ctx context.Context, conn *pgconn.PgConn, slot string) (o relay.Origin, err error) {
	o.Slot = slot
	if o.SystemID, o.Timeline, err = identifySystem(ctx, conn); err != nil {
		return o, fmt.Errorf("identify the server: %w", err)
	}
	if o.Timeline == 1 { // the first, which has no history
		return o, nil
	}
	results, err := conn.Exec(ctx, "TIMELINE_HISTORY "+strconv.Itoa(int(o.Timeline))).ReadAll()
	switch {
	case code(err) == "58P01": // somebody has cleared the file away; who needs it says so
		return o, nil
	case err != nil:
		return o, fmt.Errorf("read the history of timeline %d: %w", o.Timeline, err)
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2:
		return o, fmt.Errorf("read the history of timeline %d: %w", o.Timeline, errShape)
	}
	if o.Forks, err = parseHistory(string(results[0].Rows[0][1])); err != nil {
		return o, fmt.Errorf("read the history of timeline %d: %w", o.Timeline, err)
	}
	return o, nil
}

var errShape = errors.New("the answer has another shape than expected")

// parseHistory reads a timeline history file: a line for each timeline, with its number, where it was left, and why.
func parseHistory(text string) (forks []relay.Fork, err error) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q: %w", line, errShort)
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		at, err := relay.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		forks = append(forks, relay.Fork{Timeline: int32(timeline), At: at})
	}
	return forks, nil
}
