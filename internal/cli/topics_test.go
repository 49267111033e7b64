package cli_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walpost/walpost/internal/kafkatest"
)

func TestTopicsAreCreatedOnceAndChecked(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	values := map[string]string{"$BROKER": broker.Brokers[0]}
	run := func(name string, args ...string) {
		t.Helper()
		runGolden(t, name, values, append(args, "--kafka-brokers", "$BROKER")...)
	}
	run("topics_check_missing", "topics", "check")
	run("topics_create", "topics", "create")
	run("topics_create_again", "topics", "create", "--partitions", "5", "--output", "json")
	run("topics_check", "topics", "check", "--output", "yaml")

	policy := "compact"
	admin := kadm.NewClient(broker.Client(t))
	if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, "notif.user.registration"); err != nil {
		t.Fatal(err)
	}
	run("topics_check_compacted", "topics", "check")
}

func TestABrokerThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	values := map[string]string{"$CLOSED": closedPort(t)}
	runGolden(t, "kafka_unreachable", values, "topics", "create", "--kafka-brokers", "$CLOSED")
}
