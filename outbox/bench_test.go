package outbox_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
)

// BenchmarkStatement is the library's own part of Append: ids, validation, encoding.
func BenchmarkStatement(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			events := slices.Repeat([]outbox.Event{valid()}, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (outbox.Appender{}).Statement(b.Context(), events...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppend adds the database's part, without the commit.
func BenchmarkAppend(b *testing.B) {
	tx, err := pgtest.DB(b, pgtest.Migrated(b)).BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to keep
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			events := slices.Repeat([]outbox.Event{valid()}, n)
			b.ReportAllocs()
			for b.Loop() {
				if err := outbox.Append(b.Context(), tx, events...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
