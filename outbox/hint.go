package outbox

import "errors"

// hint tells what to run next for the two mistakes of a first installation. It knows a driver's error by its SQLSTATE
// alone, so that this package needs no driver.
func hint(err error) string {
	var state interface{ SQLState() string }
	if !errors.As(err, &state) {
		return ""
	}
	switch state.SQLState() {
	case "42P01": // undefined_table
		return "; make the table with `walpost migrate up`, or name yours in Appender.Table"
	case "42501": // insufficient_privilege
		return "; the owner of the table must grant this role insert on it"
	}
	return ""
}
