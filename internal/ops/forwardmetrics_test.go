package ops_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
)

func TestWhatTheForwarderDoesIsCounted(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	f := o.ForwardObserver()
	f.TransactionEnded(inbox.Transaction{In: 5, Out: 4, Dead: 1, Took: time.Millisecond})
	f.TransactionEnded(inbox.Transaction{In: 7, Out: 7, Took: time.Millisecond, Err: errors.New("refused")})
	f.Rebalanced(inbox.Assigned, 3, 3, 0)
	f.Lag([]inbox.Lag{{Topic: "raw", Partition: 2, Records: 7}})
	f.Lag([]inbox.Lag{{Topic: "raw", Partition: 1, Records: 1}}) // partition 2 went to another forwarder
	want := `# HELP walpost_forwarder_dead_letters_total Rows that went to the dead-letter topic.
# TYPE walpost_forwarder_dead_letters_total counter
walpost_forwarder_dead_letters_total 1
# HELP walpost_forwarder_events_total Events published in committed transactions.
# TYPE walpost_forwarder_events_total counter
walpost_forwarder_events_total 4
# HELP walpost_forwarder_lag_records Rows from the committed offset to the end of the partition.
# TYPE walpost_forwarder_lag_records gauge
walpost_forwarder_lag_records{partition="1",topic="raw"} 1
# HELP walpost_forwarder_rebalances_total Changes of the assignment.
# TYPE walpost_forwarder_rebalances_total counter
walpost_forwarder_rebalances_total{kind="assigned"} 1
# HELP walpost_forwarder_rows_total Rows whose transaction was committed.
# TYPE walpost_forwarder_rows_total counter
walpost_forwarder_rows_total 5
# HELP walpost_forwarder_transactions_total Transactions by how they ended.
# TYPE walpost_forwarder_transactions_total counter
walpost_forwarder_transactions_total{result="aborted"} 1
walpost_forwarder_transactions_total{result="committed"} 1
`
	if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(want), "walpost_forwarder_dead_letters_total", "walpost_forwarder_events_total",
		"walpost_forwarder_lag_records", "walpost_forwarder_rebalances_total", "walpost_forwarder_rows_total", "walpost_forwarder_transactions_total"); err != nil {
		t.Error(err)
	}
}

func TestAForwarderThatReportsNoMoreIsNotAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		f := o.ForwardObserver()
		f.Lag(nil)
		time.Sleep(61 * time.Second) //nolint:forbidigo // virtual time
		if err := o.Health.Live(); err == nil {
			t.Error("Live() after a minute of silence = nil, want an error")
		}
		f.Stop()
		if err := o.Health.Live(); err != nil {
			t.Errorf("Live() after the end = %v, want nil", err)
		}
	})
}

func TestAForwarderThatDoesNotWorkMakesTheProcessNotReady(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	forwarder, err := inbox.NewTransformer(inbox.TransformConfig{
		Brokers: []string{"127.0.0.1:1"}, Group: "g", Topics: []string{"raw"}, Transform: func(context.Context, *inbox.Message) ([]record.Record, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	o.ForwardObserver().Watch(forwarder)
	if report := o.Health.Report(t.Context()); report.Status != ops.StatusError || !strings.Contains(report.String(), "forwarder error") {
		t.Errorf("Report() = %v, want the forwarder's error", report)
	}
}
