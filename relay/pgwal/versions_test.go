package pgwal_test

import (
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

// TestEveryVersionOfPostgreSQLIsReadTheSame runs this package's tests with the servers that this machine does not have. What is left out tests this
// side of the wire, and waits.
func TestEveryVersionOfPostgreSQLIsReadTheSame(t *testing.T) {
	t.Parallel()
	pgtest.OnOtherVersions(t, ".", "GoesSilent|SilentFromTheStart|StandsStill|CloseSends|NewRefuses|WithoutLogicalLog")
}
