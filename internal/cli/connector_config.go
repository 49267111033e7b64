package cli

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/record"
)

// connectorConfig is the connector that the settings describe.
func connectorConfig(cfg config.Config) (debezium.Config, error) {
	database, err := connectorDatabase(cfg)
	if err != nil {
		return debezium.Config{}, err
	}
	c := debezium.Config{
		Name: cfg.Connector, Database: database, Slot: cfg.Slot, Publication: cfg.Publication, Table: connectorTable(cfg.Table),
		Mapping: record.Mapping{Topic: cfg.Topic}, Raw: cfg.Raw, ExactlyOnce: cfg.ConnectorExactlyOnce,
		Tuning: debezium.Tuning{Poll: cfg.ConnectorPoll, Batch: cfg.ConnectorBatch, Compression: cfg.ConnectorCompression},
		Topics: debezium.Topics{Partitions: cfg.Partitions, Replication: cfg.ReplicationFactor},
	}
	c.TopicPrefix, err = topicPrefix(cfg, c.Table)
	return c, err
}

// connectorTable adds the schema that Debezium wants to be told.
func connectorTable(table string) string {
	if strings.Contains(table, ".") {
		return table
	}
	return "public." + table
}

// topicPrefix keeps the connectors of one Kafka apart: by their names, with --raw by the topics of their rows.
func topicPrefix(cfg config.Config, table string) (string, error) {
	if !cfg.Raw {
		return cfg.Connector, nil
	}
	prefix, fits := strings.CutSuffix(cfg.RawTopic, "."+table)
	if fits {
		return prefix, nil
	}
	if cfg.Origin("raw-topic") == config.OriginDefault {
		return "", nil // Debezium's own for this table
	}
	return "", misused("--raw-topic %s: Debezium names it PREFIX.%s: choose a prefix", cfg.RawTopic, table)
}

var (
	sslMode     = regexp.MustCompile(`\bsslmode\s*=\s*'?([a-z-]+)`)
	sslRootCert = regexp.MustCompile(`\bsslrootcert\s*=\s*(?:'([^']*)'|([^\s&]+))`)
)

// connectorDatabase is how the workers reach the database of --database-url.
func connectorDatabase(cfg config.Config) (debezium.Database, error) {
	url, err := pgconn.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return debezium.Database{}, databaseError(cfg, err)
	}
	d := debezium.Database{Host: url.Host, Port: int(url.Port), Name: url.Database, User: url.User, Password: cfg.ConnectorPassword}
	if url.Password != "" && d.Password == "" {
		return d, misused("the password of --database-url is not handed to Kafka Connect, which shows its configurations to whoever asks: " +
			"put it into a file on the workers and refer to it with --connector-password '${file:/path/of/the/file:key}'")
	}
	if cfg.ConnectorDatabase != "" {
		host, port, err := net.SplitHostPort(cfg.ConnectorDatabase)
		if err != nil {
			return d, misuse(fmt.Errorf("--connector-database: %w", err))
		}
		if d.Host = host; port != "" {
			d.Port, _ = strconv.Atoi(port) // what is no number is refused as 0
		}
	}
	if strings.HasPrefix(d.Host, "/") || strings.HasPrefix(d.Host, "@") {
		return d, misused("database %s is reached through a socket of this machine, which Kafka Connect cannot use: say --connector-database host:port",
			databaseName(cfg.DatabaseURL))
	}
	if given := sslMode.FindStringSubmatch(cfg.DatabaseURL); given != nil {
		d.SSLMode = given[1]
	}
	if d.SSLRootCert = cfg.ConnectorSSLRootCert; d.SSLRootCert == "" {
		if given := sslRootCert.FindStringSubmatch(cfg.DatabaseURL); given != nil {
			d.SSLRootCert = given[1] + given[2]
		}
	}
	return d, nil
}

// connectorName is the name that Kafka Connect knows.
func connectorName(cfg config.Config) string {
	return debezium.Config{Name: cfg.Connector, Raw: cfg.Raw}.ConnectorName()
}

func connectClient(cfg config.Config) (*debezium.Client, error) {
	client, err := debezium.NewClient(cfg.ConnectURL, debezium.ClientConfig{})
	if err != nil {
		return nil, misuse(err)
	}
	return client, nil
}

// connectError gives an error of Kafka Connect its exit code.
func connectError(cfg config.Config, err error) error {
	var notRunning *debezium.NotRunningError
	switch {
	case errors.As(err, &notRunning):
		return unhealthy("%w", err)
	case errors.Is(err, debezium.ErrNotFound):
		return notFound("there is no connector %s in Kafka Connect at %s: make it with `walpost connector apply`, or choose another with --connector",
			connectorName(cfg), config.Redact(cfg.ConnectURL))
	case errors.Is(err, debezium.ErrUnreachable):
		return fmt.Errorf("%w with --connect-url", err)
	}
	return err
}
