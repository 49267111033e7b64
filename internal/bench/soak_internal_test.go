package bench

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheAgeOfWhatIsNotConfirmedIsNeverToldTooSmall(t *testing.T) {
	t.Parallel()
	began := time.Now()
	type look struct{ second, end, confirmed, want int64 }
	for name, looks := range map[string][]look{
		"everything_is_confirmed":             {{0, 100, 100, 0}, {1, 200, 200, 0}},
		"since_the_look_before":               {{0, 100, 100, 0}, {1, 200, 100, 1}, {2, 300, 200, 1}, {3, 300, 300, 0}},
		"nothing_is_confirmed_for_long":       {{0, 100, 100, 0}, {1, 200, 100, 1}, {2, 300, 100, 2}, {3, 300, 150, 3}, {4, 400, 200, 3}},
		"from_before_the_first_look":          {{0, 100, 50, 0}, {1, 100, 50, 1}, {2, 100, 100, 0}},
		"confirmed_beyond_what_was_looked_at": {{0, 100, 100, 0}, {1, 200, 210, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trail logTrail
			for _, l := range looks {
				if got := trail.age(began.Add(time.Duration(l.second)*time.Second), l.end, l.confirmed); got != time.Duration(l.want)*time.Second {
					t.Errorf("age(at %d s: log to %d, confirmed to %d) = %v, want %d s", l.second, l.end, l.confirmed, got, l.want)
				}
			}
		})
	}
	var trail logTrail
	for i := range int64(1000) {
		trail.age(began.Add(time.Duration(i)), i, i)
	}
	if len(trail) > 2 {
		t.Errorf("looks kept = %d, want no more than are needed", len(trail))
	}
}

func TestTheHighestOfEachSecondIsKept(t *testing.T) {
	t.Parallel()
	var list []float64
	for _, v := range []struct {
		second int
		value  float64
	}{{0, 3}, {0, 5}, {0, 4}, {1, 2}, {4, 7}, {4, 6}} {
		highest(&list, v.second, v.value)
	}
	if diff := cmp.Diff([]float64{5, 2, 2, 2, 7}, list); diff != "" {
		t.Errorf("highest (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{5, 7}, thinned(list, 2)); diff != "" {
		t.Errorf("thinned keeps no peak (-want +got):\n%s", diff)
	}
}

func TestASlopeTellsALeakFromNoise(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{7}, 0}, {[]float64{5, 5, 5, 5}, 0}, {[]float64{1, 3, 5, 7}, 2}, {[]float64{9, 6, 3}, -3}, {[]float64{4, 8, 8, 4}, 0},
	} {
		if got := slope(test.values); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("slope(%v) = %v, want %v", test.values, got, test.want)
		}
	}
	s := Soak{Latency: Latency{Contestant: exactlyOnce}, MemoryMiB: []float64{10, 40, 60, 61, 62, 63}, LagSeconds: []float64{0.1}} // grows at the start, and then 1 a second
	list := SoakResults{Contestants: []Contestant{{Name: exactlyOnce}}, Soaks: []Soak{s}}.Summaries()
	if len(list) != 1 || math.Abs(list[0].Slope-60) > 1e-9 {
		t.Errorf("Summaries() = %+v, want a slope of 60 MiB a minute in the second half", list)
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		most  float64
		steps int
		want  float64
	}{{10, 10, 1}, {11, 10, 2}, {74, 4, 20}, {0.35, 4, 0.1}, {410, 4, 200}, {4, 4, 1}} {
		if got := tick(test.most, test.steps); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("tick(%v, %d) = %v, want %v", test.most, test.steps, got, test.want)
		}
	}
}
