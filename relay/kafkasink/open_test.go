package kafkasink_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

func TestOpenNamesTheAddressThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // a listener that accepts and says nothing
	sink := newSink(t, kafkasink.Config{Brokers: []string{l.Addr().String()}, ConnectTimeout: 200 * time.Millisecond})
	began := time.Now()
	_, _, err = sink.Open(t.Context(), relay.Origin{})
	var halt *relay.HaltError
	if err == nil || errors.As(err, &halt) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Open = %v, want a passing error that names %s", err, l.Addr())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Open took %v, want about 200 ms", took)
	}
}

func TestRefusedCredentialsAreNotTriedInAHurry(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "admin", "right"))
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) { // kfake itself would cut the connection
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	sink := newSink(t, kafkasink.Config{
		Brokers: c.Brokers, ConnectTimeout: 2 * time.Second,
		ClientOptions: []kgo.Opt{kgo.SASL(plain.Auth{User: "admin", Pass: "wrong"}.AsMechanism())},
	})
	_, _, err := sink.Open(t.Context(), relay.Origin{})
	var slow *relay.SlowRetry
	if !errors.As(err, &slow) || slow.After < time.Minute {
		t.Errorf("Open = %v, want a SlowRetry of a minute", err)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]kafkasink.Config{
		"no broker":         {},
		"an invalid option": {Brokers: []string{"localhost"}, ClientOptions: []kgo.Opt{kgo.ProducerBatchMaxBytes(1)}},
	} {
		if _, err := kafkasink.New(cfg); err == nil {
			t.Errorf("New with %s = nil, want an error", name)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(size, " events"), func(b *testing.B) {
			c := cluster(b)
			p := open(b, kafkasink.Config{Brokers: c.Brokers, Delivery: relay.AtLeastOnce}) // exactly once is bounded by the gap of its ring
			all := events(size)
			random := rand.NewChaCha8([32]byte{})
			for i := range all { // 427 bytes, of which half are random
				noise := make([]byte, 100)
				_, _ = random.Read(noise) // never fails
				all[i].Record.Value = fmt.Appendf(nil, `{"note":"%s","noise":"%x"}`, strings.Repeat("word", 50), noise)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Publish(b.Context(), all, relay.Watermark{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
		})
	}
}
