package inbox_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/record"
)

func TestAStopFinishesTheBatchAtHand(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	slow := func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
		entered <- struct{}{}
		select {
		case <-leave:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return route(ctx, m)
	}
	x := f.start(func(c *inbox.TransformConfig) { c.Transform = slow })
	receive(t, "a batch", entered)
	x.cancel()
	if err := x.it.Ready(); err == nil || !strings.Contains(err.Error(), "stopping") {
		await(t, "Ready to say that it stops", func() bool { err := x.it.Ready(); return err != nil && strings.Contains(err.Error(), "stopping") })
	}
	close(leave)
	x.mustStop()
	if x.seen.out == 0 {
		t.Error("nothing was published, want the batch at hand")
	}
	second := f.start(nil)
	f.awaitEnd()
	second.mustStop()
	f.mustHaveOnce(100)
	if x.seen.out+second.seen.out != 100 {
		t.Errorf("published %d and %d, want 100 in all", x.seen.out, second.seen.out)
	}
}

func TestAStopCutsOffABatchThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]func(*flow) func(){
		"in the function": nil,
		"in the commit": func(f *flow) func() {
			release := make(chan struct{})
			f.kafka.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
				f.kafka.SleepControl(func() { <-release })
				return nil, nil, false // the broker commits, after the client has gone
			})
			return func() { close(release) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			f.publish(0, 100)
			entered := make(chan struct{}, 1000)
			release := func() {}
			if hangs != nil {
				release = hangs(f)
			}
			x := f.start(func(c *inbox.TransformConfig) {
				c.Drain = 200 * time.Millisecond
				c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
					entered <- struct{}{}
					if hangs == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return route(ctx, m)
				}
			})
			receive(t, "a batch", entered)
			if hangs != nil {
				for range 20 { // most of the batch, so that what hangs is its commit
					receive(t, "a batch", entered)
				}
			}
			x.cancel()
			err := x.wait()
			release()
			if err == nil || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("Run = %v, want an error that says that the batch was cut off", err)
			}
			second := f.start(nil)
			f.awaitEnd()
			second.mustStop()
			f.mustHaveOnce(100)
		})
	}
}

func TestABrokerThatIsNotThereIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	var up atomic.Bool
	x := f.start(func(c *inbox.TransformConfig) {
		c.ClientOptions = append(c.ClientOptions, kgo.RetryTimeout(300*time.Millisecond), kgo.RequestRetries(1),
			kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !up.Load() {
					return nil, errors.New("no route to the broker")
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}))
	})
	await(t, "the log to say so", func() bool { return strings.Contains(x.log.String(), "begun anew") })
	if x.it.Ready() == nil {
		t.Error("Ready = nil without a broker")
	}
	up.Store(true)
	f.awaitEnd()
	x.mustStop()
	f.mustHaveOnce(100)
}

func TestAStopIsNotHeldUpByABrokerThatSaysNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it accepts and is silent
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	f := newFlow(t)
	x := f.start(func(c *inbox.TransformConfig) { c.Brokers = []string{l.Addr().String()} })
	conn := receive(t, "a connection", accepted)
	defer func() { _ = conn.Close() }()
	began := time.Now()
	x.mustStop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v, want a moment", took)
	}
}
