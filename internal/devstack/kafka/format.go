package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/walpost/walpost/internal/devstack/jvm"
	"github.com/walpost/walpost/internal/devstack/maven"
)

// format prepares the data directory of a new broker and returns the cluster's id. It works in a folder beside it and renames that, so that a crash leaves
// no half-made one. The features of the cluster, transaction.version 2 among them, are those of this Kafka.
func format(ctx context.Context, a maven.Artifacts, dir string, settings map[string]string) (cluster string, err error) {
	data, fresh := filepath.Join(dir, "data"), filepath.Join(dir, "data.new")
	if id, err := clusterID(data); !errors.Is(err, os.ErrNotExist) {
		return id, err
	}
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	own := maps.Clone(settings)
	own["log.dirs"] = fresh
	file := filepath.Join(dir, "format.properties")
	if err := jvm.WriteProperties(file, own); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(file) }() // harmless when it stays
	if err := jvm.Run(ctx, a, dir, "kafka.tools.StorageTool", "format", "--config", file, "--cluster-id", newClusterID()); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, data); err != nil {
		return "", err
	}
	return clusterID(data)
}

// newClusterID makes an id in the form Kafka wants: 16 bytes in the URL's base64. Kafka's own tools take none that begins with a dash.
func newClusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// clusterID reads the id from the data directory; os.ErrNotExist when there is none.
func clusterID(data string) (string, error) {
	text, err := os.ReadFile(filepath.Join(data, "meta.properties"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "cluster.id="); ok {
			return id, nil
		}
	}
	return "", fmt.Errorf("%s has no cluster.id", filepath.Join(data, "meta.properties"))
}
