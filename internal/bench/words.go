package bench

import (
	"fmt"
	"math"
	"strconv"
)

// count writes a whole number with its thousands apart.
func count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// ms writes milliseconds with the digits that mean something.
func ms(value float64) string { return digits(value) + " ms" }

// digits keeps two digits of a small number and three of others.
func digits(value float64) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case value < 1:
		return strconv.FormatFloat(value, 'f', 2, 64)
	case value < 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	default:
		return count(int(math.Round(value)))
	}
}

// seconds writes them with a tenth.
func seconds(value float64) string { return strconv.FormatFloat(value, 'f', 1, 64) }

// percent writes a share in hundredths.
func percent(share float64) string { return fmt.Sprintf("%.0f", 100*share) }

// rate writes events a second; from ten thousand on in thousands.
func rate(value float64) string {
	if value >= 10_000 {
		return fmt.Sprintf("%.1fk", value/1000)
	}
	return count(int(math.Round(value)))
}

// span writes a length of time.
func span(seconds float64) string {
	if minutes := seconds / 60; minutes >= 2 && minutes == math.Trunc(minutes) {
		return fmt.Sprintf("%g minutes", minutes)
	}
	return fmt.Sprintf("%g seconds", seconds)
}

// hundredths writes a ratio that is held against a goal.
func hundredths(ratio float64) string { return fmt.Sprintf("%.2f×", ratio) }

// times writes a ratio, and one below 1 so that it is not taken for 1.
func times(ratio float64) string {
	switch {
	case ratio >= 10:
		return fmt.Sprintf("%.0f×", ratio)
	case ratio < 1:
		return fmt.Sprintf("%.2f×", ratio)
	default:
		return fmt.Sprintf("%.1f×", ratio)
	}
}
