package pgwal_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
)

// benchRows are one-row transactions with a payload of 427 bytes.
const benchRows = 200_000

// BenchmarkReading reads a backlog, which is an operation, and has pg_recvlogical read the same one to /dev/null in turn: what counts is the ratio.
func BenchmarkReading(b *testing.B) {
	url := pgtest.StartServer(b).Migrated(b)
	d := database{Pool: pgtest.Pool(b, url), url: url, slot: pgtest.SlotName(b)}
	var programs string
	d.scan(b, `select setting from pg_config where name = 'BINDIR'`, nil, &programs)
	yardstick := filepath.Join(programs, "pg_recvlogical")
	if _, err := os.Stat(yardstick); err != nil {
		b.Skipf("no pg_recvlogical: %v", err)
	}
	until := d.committed(b, benchRows)
	b.Run("tcp", func(b *testing.B) { d.benchmarkReading(b, yardstick, until) })
	d.url = pgtest.Local(b, url)
	b.Run("unix", func(b *testing.B) { d.benchmarkReading(b, yardstick, until) })
}

func (d database) benchmarkReading(b *testing.B, yardstick string, until relay.LSN) {
	b.Helper()
	var rates, ratios []float64
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		theirs := d.recvlogical(b, yardstick, until)
		b.StartTimer()
		ours := d.drain(b, until)
		rates, ratios = append(rates, benchRows/ours.Seconds()), append(ratios, theirs.Seconds()/ours.Seconds())
	}
	slices.Sort(rates)
	slices.Sort(ratios)
	b.ReportMetric(rates[len(rates)/2], "rows/s")
	b.ReportMetric(ratios[0], "least-ratio")
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
}

// committed writes rows behind the slot, and returns the log's end.
func (d database) committed(b *testing.B, rows int) (until relay.LSN) {
	b.Helper()
	d.exec(b, `select pg_create_logical_replication_slot($1, 'pgoutput')`, d.slot)
	d.exec(b, `create procedure fill(n int) language plpgsql as $$
		begin
			for i in 1..n loop
				insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload)
				values (gen_random_uuid(), 'thing', 'thing-' || i % 1000, 'things', ('"' || rpad(md5(i::text), 425, md5((-i)::text)) || '"')::json);
				commit;
			end loop;
		end $$`)
	d.exec(b, fmt.Sprintf(`call fill(%d)`, rows))
	d.scan(b, `select pg_current_wal_lsn()::text`, nil, &until)
	return until
}

// copied is a slot that stands where the backlog's does.
func (d database) copied(b *testing.B) database {
	b.Helper()
	from := d.slot
	d.slot = pgtest.SlotName(b)
	d.exec(b, `select pg_copy_logical_replication_slot($1, $2)`, from, d.slot)
	return d
}

func (d database) drop(b *testing.B) {
	b.Helper()
	d.exec(b, `select pg_drop_replication_slot($1)`, d.slot)
}

func (d database) recvlogical(b *testing.B, program string, until relay.LSN) time.Duration {
	b.Helper()
	d = d.copied(b)
	defer d.drop(b)
	began := time.Now()
	cmd := exec.CommandContext(b.Context(), program, "--dbname", d.url, "--slot", d.slot, "--start", "--endpos", until.String(), "--no-loop",
		"--file", "/dev/null", "--option", "proto_version=1", "--option", "publication_names=walpost_outbox")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("pg_recvlogical: %v: %s", err, out)
	}
	return time.Since(began)
}

func (d database) drain(b *testing.B, until relay.LSN) time.Duration {
	b.Helper()
	d = d.copied(b)
	defer d.drop(b)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	s, err := d.source(b, nil).Open(ctx)
	if err != nil {
		b.Fatal(err)
	}
	events := 0
	for end := relay.LSN(0); events < benchRows; {
		batch, err := s.Next(ctx)
		if err != nil {
			b.Fatalf("Next = %v at %s of %s", err, end, until)
		}
		events, end = events+len(batch.Events), max(end, batch.End)
		if batch.End != 0 {
			s.Confirm(batch.End)
		}
	}
	took := time.Since(began)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}
