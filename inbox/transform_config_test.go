package inbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/inbox"
)

func TestNewTransformerRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		edit func(*inbox.TransformConfig)
		want string
	}{
		{"the least there is", func(*inbox.TransformConfig) {}, ""},
		{"no brokers", func(c *inbox.TransformConfig) { c.Brokers = nil }, "Brokers is empty"},
		{"no group", func(c *inbox.TransformConfig) { c.Group = "" }, "Group is empty"},
		{"no topics", func(c *inbox.TransformConfig) { c.Topics = nil }, "Topics is empty"},
		{"an empty topic", func(c *inbox.TransformConfig) { c.Topics = []string{""} }, "empty name"},
		{"D3: dead letters that go round", func(c *inbox.TransformConfig) { c.DeadLetterTopic = "t" }, "for ever"},
		{"no function", func(c *inbox.TransformConfig) { c.Transform = nil }, "Transform is nil"},
		{"a negative batch", func(c *inbox.TransformConfig) { c.Batch = -1 }, "Batch is -1"},
		{"a short transaction", func(c *inbox.TransformConfig) { c.TransactionTimeout = time.Millisecond }, "below 1s"},
		{"a negative wait", func(c *inbox.TransformConfig) { c.RetryMin = -1 }, "RetryMin is"},
		{"a limit below the first wait", func(c *inbox.TransformConfig) { c.RetryMax = time.Millisecond }, "below RetryMin"},
		{"a negative drain", func(c *inbox.TransformConfig) { c.Drain = -1 }, "Drain is"},
		{"an observer of something else", func(c *inbox.TransformConfig) { c.Observer = 1 }, "implements none"},
	} {
		cfg := inbox.TransformConfig{Brokers: []string{"127.0.0.1:1"}, Group: "g", Topics: []string{"t"}, Transform: route}
		tc.edit(&cfg)
		_, err := inbox.NewTransformer(cfg)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("NewTransformer with %s = %v, want %q", tc.name, err, tc.want)
		}
	}
}
