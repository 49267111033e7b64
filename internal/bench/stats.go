package bench

import (
	"math"
	"slices"
	"time"
)

// Spread is what repeated measurements gave: the middle, and how far the others lie from it.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// spread of no values is the zero Spread.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return Spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], N: len(sorted)}
}

// Curve is a distribution by its percentiles, rising; the last one is the maximum.
type Curve []Percentile

// Percentile says that Percent of the values are at most Ms.
type Percentile struct {
	Percent float64 `json:"percent"`
	Ms      float64 `json:"ms"`
}

// percents are those that are kept of a distribution.
func percents() []float64 { return []float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100} }

// curve takes the nearest rank: every percentile is a value that was measured.
func curve(values []time.Duration) Curve {
	if len(values) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(values))
	var c Curve
	for _, percent := range percents() {
		rank := int(math.Ceil(percent*float64(len(sorted))/100 - 1e-9)) // 99.9 has no exact form
		c = append(c, Percentile{percent, milliseconds(sorted[max(rank, 1)-1])})
	}
	return c
}

// At is the value of a percentile that is kept; NaN when it is not.
func (c Curve) At(percent float64) float64 {
	for _, p := range c {
		if p.Percent == percent {
			return p.Ms
		}
	}
	return math.NaN()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// round keeps a number of decimals.
func round(value float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(value*scale) / scale
}
