package relay_test

import (
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

// TestEveryVersionOfPostgreSQLIsRelayedTheSame is about what servers do differently from version to version when they crash, are promoted or refuse;
// the rest of reading them is relay/pgwal's.
func TestEveryVersionOfPostgreSQLIsRelayedTheSame(t *testing.T) {
	t.Parallel()
	pgtest.OnOtherVersions(t, "^TestRule2AServerCrash|^TestEachCause|^TestTheWayOn|^TestAPromotedStandby.*/^exactly-once$|^TestAPositionBehindTheFork", "")
}
