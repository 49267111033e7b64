package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheMedianIsTheMiddleAndTheSpreadTheEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values []float64
		want   Spread
	}{
		"of_none":         {nil, Spread{}},
		"of_one":          {[]float64{7}, Spread{7, 7, 7, 1}},
		"of_an_odd_many":  {[]float64{9, 1, 3}, Spread{3, 1, 9, 3}},
		"of_an_even_many": {[]float64{4, 1, 2, 9}, Spread{3, 1, 9, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := spread(test.values); got != test.want {
				t.Errorf("spread(%v) = %+v, want %+v", test.values, got, test.want)
			}
		})
	}
}

func TestAPercentileIsAMeasuredValueOfTheNearestRank(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := 1000; i > 0; i-- {
		values = append(values, time.Duration(i)*time.Millisecond)
	}
	c := curve(values)
	for percent, want := range map[float64]float64{1: 10, 50: 500, 90: 900, 99: 990, 99.9: 999, 100: 1000} {
		if got := c.At(percent); got != want {
			t.Errorf("curve(1..1000 ms).At(%v) = %v, want %v", percent, got, want)
		}
	}
	if got := curve(values[:1]).At(1); got != 1000 {
		t.Errorf("curve(one value).At(1) = %v, want that value", got)
	}
	if got := c.At(42); !math.IsNaN(got) {
		t.Errorf("At(a percentile that is not kept) = %v, want NaN", got)
	}
}

// arrivals are whole events of the prefix with the numbers.
func arrivals(prefix string, numbers ...int) []arrival {
	var list []arrival
	for _, n := range numbers {
		list = append(list, arrival{[]byte(prefix + hex12(n)), payloadBytes})
	}
	return list
}

func hex12(n int) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 12)
	for i := len(text) - 1; i >= 0; i, n = i-1, n>>4 {
		text[i] = digits[n&15]
	}
	return string(text)
}

func TestEveryEventIsAccountedFor(t *testing.T) {
	t.Parallel()
	prefix := idPrefix(time.Now(), 3)
	other := idPrefix(time.Now(), 4)
	for name, test := range map[string]struct {
		come [][]arrival
		want Count
	}{
		"all_came":          {[][]arrival{arrivals(prefix, 1, 2), arrivals(prefix, 3, 4)}, Count{Written: 4, Seen: 4}},
		"one_is_missing":    {[][]arrival{arrivals(prefix, 1, 2, 4)}, Count{Written: 4, Seen: 3, Lost: 1}},
		"one_came_twice":    {[][]arrival{arrivals(prefix, 1, 2, 3, 4, 2)}, Count{Written: 4, Seen: 4, Doubled: 1}},
		"one_of_others":     {[][]arrival{arrivals(prefix, 1, 2, 3, 4), arrivals(other, 1)}, Count{Written: 4, Seen: 4, Foreign: 1}},
		"one_nobody_wrote":  {[][]arrival{arrivals(prefix, 1, 2, 3, 4, 5)}, Count{Written: 4, Seen: 4, Foreign: 1}},
		"an_id_out_of_form": {[][]arrival{arrivals(prefix, 1, 2, 3, 4), {{[]byte("?"), payloadBytes}}}, Count{Written: 4, Seen: 4, Foreign: 1}},
		"a_payload_cut_short": {
			[][]arrival{arrivals(prefix, 1, 2, 3), {{[]byte(prefix + hex12(4)), payloadBytes - 1}}}, Count{Written: 4, Seen: 3, Lost: 1, Foreign: 1},
		},
		"nothing_came":                          {nil, Count{Written: 4, Lost: 4}},
		"other_keys_in_another_order":           {[][]arrival{arrivals(prefix, 4, 3, 2, 1)}, Count{Written: 4, Seen: 4}},
		"the_same_key_in_another_order_doubled": {[][]arrival{arrivals(prefix, 1, 2, 3, 4, 1)}, Count{Written: 4, Seen: 4, Doubled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tally := newTally(prefix, 10)
			for _, fetch := range test.come {
				tally.add(time.Now(), fetch)
			}
			got := tally.result(4)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if fault, want := got.fault() != nil, test.want.Lost+test.want.Foreign > 0; fault != want {
				t.Errorf("fault = %v, want %v", fault, want)
			}
		})
	}
}

func TestAnEventBehindALaterOneOfItsKeyIsAFault(t *testing.T) {
	t.Parallel()
	prefix := idPrefix(time.Now(), 0)
	tally := newTally(prefix, keys+1)
	tally.add(time.Now(), arrivals(prefix, keys+1, 1)) // both are of key 1
	got := tally.result(keys + 1)
	if got.Disordered != 1 {
		t.Errorf("disordered = %d, want 1", got.Disordered)
	}
	if got.Lost = 0; got.fault() == nil {
		t.Error("fault() = nil, want one that tells of the order")
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		count(7): "7", count(1000): "1,000", count(1234567): "1,234,567", count(-1000): "-1,000",
		ms(0.234): "0.23 ms", ms(4.56): "4.6 ms", ms(123.4): "123 ms", ms(1234): "1,234 ms", ms(math.NaN()): "– ms",
		rate(9876): "9,876", rate(52345): "52.3k", times(2.94): "2.9×", times(41): "41×", times(0.957): "0.96×",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEveryPayloadHasTheSizeThatIsTold(t *testing.T) {
	t.Parallel()
	for _, seq := range []int{1, 99, 99_999, 100_000, 123_456_789} {
		if got := payload(seq); len(got) != payloadBytes || !json.Valid(got) {
			t.Errorf("payload(%d) = %s of %d bytes, want JSON of %d", seq, got, len(got), payloadBytes)
		}
	}
}

func TestAContestantThatGivesUpIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("it has ended")
		tally := newTally(idPrefix(time.Now(), 0), 10)
		began := time.Now()
		err := tally.await(t.Context(), 10, stallLimit, func(context.Context) error { return gone })
		if took := time.Since(began); !errors.Is(err, gone) || took != askPeriod {
			t.Errorf("await(contestant in trouble) = %v after %v, want %v after %v", err, took, gone, askPeriod)
		}
		began = time.Now()
		err = tally.await(t.Context(), 10, stallLimit, func(context.Context) error { return nil })
		if took := time.Since(began); err != nil || took != stallLimit {
			t.Errorf("await(nothing comes) = %v after %v, want none after %v", err, took, stallLimit)
		}
	})
}

func TestWhatTheHostTakesAwayIsNotWhatTheMachineUses(t *testing.T) {
	t.Parallel()
	got := parseProcessors("cpu  1000 20 300 70000 500 6 70 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	if want := (processors{used: 1000 + 20 + 300 + 6 + 70, stolen: 800}); got != want {
		t.Errorf("ticks = %+v, want %+v", got, want)
	}
	if got := parseProcessors("cpu  1000 20 300"); got != (processors{}) {
		t.Errorf("ticks of a system that does not tell = %+v, want none", got)
	}
}
