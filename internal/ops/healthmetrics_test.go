package ops_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTheTimeWithoutKafkaIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		failure := errors.New("connection refused")
		o.Health.Register("kafka", func(context.Context) error { return failure })
		scrape := func(want int) {
			t.Helper()
			text := fmt.Sprintf("# HELP walpost_kafka_unavailable_seconds Time for which no broker has answered; 0 when one does.\n"+
				"# TYPE walpost_kafka_unavailable_seconds gauge\nwalpost_kafka_unavailable_seconds %d\n", want)
			if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(text), "walpost_kafka_unavailable_seconds"); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second) //nolint:forbidigo // virtual time
		}
		scrape(0)
		scrape(10)
		scrape(20)
		failure = nil
		scrape(0)
	})
}
