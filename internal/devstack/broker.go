package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
)

// BrokerPartitions is how many partitions a topic of the development broker has.
const BrokerPartitions = 3

// segmentBytes bounds the files of a partition. The broker drops old data by whole files, so its own 100 MB would keep far more than asked.
const segmentBytes = 4 << 20

// BrokerConfig says where the development broker keeps its data and listens.
type BrokerConfig struct {
	Dir      string       // made when missing; locked for this process
	Listener net.Listener // the broker closes it; clients are sent to its address
	Logger   *slog.Logger // warnings and errors of the broker; default discarded
}

// Broker is a development broker that speaks Kafka's protocol: one node, data on disk. It is not Kafka.
type Broker struct {
	cluster *kfake.Cluster
	lock    *Lock
	addr    string
}

// StartBroker starts the broker on its directory. What was acknowledged before is there again: records, groups, offsets, transactional ids, also
// after kill -9; a transaction that was open then is aborted. It returns a *LockedError when another process runs a broker there. Topics are made by
// CreateTopic and by CreateTopics requests, not by being used: kfake writes down a topic that came into being by use only at an orderly stop, and after a
// kill -9 its records would be gone.
func StartBroker(ctx context.Context, cfg BrokerConfig) (*Broker, error) {
	lock, err := LockDir(cfg.Dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("development broker: %w", err), cfg.Listener.Close())
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return kafkaOnly{cfg.Listener}, nil }),
		kfake.ClusterID("walpost-dev"),
		kfake.DataDir(filepath.Join(cfg.Dir, "data")),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": strconv.Itoa(segmentBytes)}),
		kfake.DefaultNumPartitions(BrokerPartitions),
		kfake.WithLogger(brokerLog{cfg.Logger}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("development broker in %s: %w", cfg.Dir, err), lock.Release())
	}
	b := &Broker{cluster: cluster, lock: lock, addr: cfg.Listener.Addr().String()}
	if lock.Abandoned() != nil {
		if err := b.abortCutOff(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("development broker in %s: end what was cut off: %w", cfg.Dir, err), b.Close())
		}
	}
	return b, nil
}

// Addr is the host and port that clients connect to.
func (b *Broker) Addr() string { return b.addr }

// CreateTopic makes a topic with BrokerPartitions partitions and the configuration given; one that is there already stays as it is.
func (b *Broker) CreateTopic(topic string, config map[string]string) error {
	all := map[string]string{"segment.bytes": strconv.Itoa(segmentBytes)}
	maps.Copy(all, config)
	err := b.cluster.CreateTopic(topic, BrokerPartitions, all)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// Close writes down what a restart needs and ends the broker with all its connections.
func (b *Broker) Close() error {
	b.cluster.Close()
	return b.lock.Release()
}

// brokerLog hands the broker's warnings and errors on; its talk about single requests is for debugging the broker itself.
type brokerLog struct{ log *slog.Logger }

// Logf implements kfake's Logger.
func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("development broker", "message", fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("development broker", "message", fmt.Sprintf(format, args...))
	}
}
