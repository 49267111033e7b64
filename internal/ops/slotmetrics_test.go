package ops_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/walpost/walpost/internal/ops"
)

func TestTheSlotIsShownAsMetricsAndAsHealth(t *testing.T) {
	t.Parallel()
	safe := int64(0)
	for name, tc := range map[string]struct {
		slot   ops.Slot
		err    error
		status ops.Status
		metric string
	}{
		"reserved":   {ops.Slot{WALStatus: "reserved", RetainedBytes: 7}, nil, ops.StatusOK, "walpost_slot_retained_bytes 7"},
		"unreserved": {ops.Slot{WALStatus: "unreserved", SafeBytes: &safe}, nil, ops.StatusWarn, "walpost_slot_safe_bytes 0"},
		"lost":       {ops.Slot{WALStatus: "lost"}, nil, ops.StatusError, `walpost_slot_wal_status{status="lost"} 1`},
		"read":       {ops.Slot{WALStatus: "reserved", Inactive: new(time.Duration)}, nil, ops.StatusOK, "walpost_slot_inactive_seconds 0"},
		"missing":    {ops.Slot{}, errors.New("replication slot does not exist"), ops.StatusError, `walpost_health{entity="slot",state="error"} 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOps(t)
			o.WatchSlot(func(context.Context) (ops.Slot, error) { return tc.slot, tc.err })
			report := o.Health.Report(t.Context())
			if len(report.Checks) != 1 || report.Checks[0].Name != "slot" || report.Checks[0].Status != tc.status {
				t.Errorf("Report() = %+v, want slot %s", report, tc.status)
			}
			got := get(o.Handler(), "/metrics", "*/*", "localhost").Body.String()
			if !strings.Contains(got, tc.metric) {
				t.Errorf("metrics have no %s", tc.metric)
			}
			if unknown := tc.slot.Inactive == nil; unknown == strings.Contains(got, "\nwalpost_slot_inactive_seconds ") {
				t.Errorf("metrics say since when nobody reads: %v, want that only where it is known", unknown)
			}
			problems, err := testutil.GatherAndLint(o.Registry)
			if err != nil || len(problems) > 0 {
				t.Errorf("metrics: %v, %+v", err, problems)
			}
		})
	}
}

func TestReadingTheSlotIsRareWhileItIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, reads := newOps(t), 0
		var failure error
		o.WatchSlot(func(context.Context) (ops.Slot, error) { reads++; return ops.Slot{}, failure })
		step := func(want int) {
			t.Helper()
			time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
			o.Health.Report(t.Context())
			if reads != want {
				t.Errorf("reads = %d, want %d", reads, want)
			}
		}
		step(1)
		step(1)
		step(1)
		failure = errors.New("gone")
		step(2)
		step(3) // a failure is looked at again at once
	})
}
