package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// DaysAhead is how many days after today Up makes partitions for.
const DaysAhead = 7

// PartitionState says what CreatePartitions did about a day.
type PartitionState string

// The states of a partition, as the SQL function walpost_create_partitions returns them.
const (
	PartitionCreated   PartitionState = "created"
	PartitionPresent   PartitionState = "present"    // it was there
	PartitionInDefault PartitionState = "in_default" // not made: rows of that day lie in the default partition, which keeps the day
	PartitionNameTaken PartitionState = "name_taken" // not made: a table of that name exists and is no partition
)

// Partition is a day of a partitioned table.
type Partition struct {
	Table string // outbox_events or inbox
	Name  string // <table>_YYYYMMDD
	State PartitionState
}

// CreatePartitions makes the missing day partitions of the outbox and the inbox, from yesterday (for ids of clocks
// that are behind) to aheadDays days after today, days of UTC by the database's clock, and returns all of them with
// what became of each. A day that could not be made is no error, since the default partition takes its rows: its
// state says why.
//
// It may run at any time and by several processes at once. Writers go on meanwhile, save those with ids for the
// default partition, which may wait up to ten seconds; if one of those holds its transaction open longer than that,
// the call fails and may be repeated.
func CreatePartitions(ctx context.Context, db *sql.DB, aheadDays int) ([]Partition, error) {
	var partitions []Partition
	for _, table := range []string{"outbox_events", "inbox"} {
		days, err := createPartitions(ctx, db, table, aheadDays)
		if err != nil {
			return partitions, fmt.Errorf("create partitions of %s: %w%s", table, err, partitionHint(err))
		}
		partitions = append(partitions, days...)
	}
	return partitions, nil
}

func createPartitions(ctx context.Context, db *sql.DB, table string, aheadDays int) ([]Partition, error) {
	rows, err := db.QueryContext(ctx, `
		select partition_name, state
		from walpost_create_partitions($1::text::regclass, (now() at time zone 'utc')::date - 1, $2::integer + 2)`, table, aheadDays)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	var days []Partition
	for rows.Next() {
		day := Partition{Table: table}
		if err := rows.Scan(&day.Name, &day.State); err != nil {
			return nil, err
		}
		days = append(days, day)
	}
	return days, rows.Err()
}

func partitionHint(err error) string {
	var state interface{ SQLState() string }
	if !errors.As(err, &state) {
		return ""
	}
	switch state.SQLState() {
	case "42P01", "42883": // undefined_table, undefined_function
		return "; run `walpost migrate up` first"
	case "55P03": // lock_not_available
		return "; a transaction that wrote to the default partition is still open: run `walpost maintain` again when it has ended"
	}
	return ""
}
