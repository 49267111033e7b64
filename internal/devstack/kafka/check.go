package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const checkTimeout = 5 * time.Second

// Check returns nil when the broker serves clients: it answers within five seconds, belongs to the cluster of its folder and knows itself as a broker.
func (b *Broker) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.RequestRetries(0), kgo.DialTimeout(checkTimeout))
	if err != nil {
		return err
	}
	defer client.Close()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none, not all
	metadata, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("ask Kafka at %s: %w", b.Addr(), err)
	}
	switch {
	case metadata.ClusterID == nil || *metadata.ClusterID != b.cluster:
		return fmt.Errorf("another Kafka answers at %s", b.Addr())
	case len(metadata.Brokers) == 0:
		return errors.New("the cluster has no broker yet")
	}
	return nil
}
