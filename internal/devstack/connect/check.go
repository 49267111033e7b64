package connect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Connector is the class of Debezium's PostgreSQL connector.
const Connector = "io.debezium.connector.postgresql.PostgresConnector"

const checkTimeout = 5 * time.Second

// Check returns nil when the worker runs connectors and knows Debezium's: it answers both questions within five seconds.
func (w *Worker) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if _, err := w.ask(ctx, "/health"); err != nil { // that it has joined its group and read what is in Kafka
		return err
	}
	body, err := w.ask(ctx, "/connector-plugins")
	if err != nil {
		return err
	}
	var plugins []struct{ Class string }
	if err := json.Unmarshal(body, &plugins); err != nil {
		return fmt.Errorf("%s/connector-plugins: %w", w.URL(), err)
	}
	if !slices.Contains(plugins, struct{ Class string }{Connector}) {
		return fmt.Errorf("%s/connector-plugins does not list %s", w.URL(), Connector)
	}
	return nil
}

func (w *Worker) ask(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL()+path, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // leaves no connection behind, and asks no proxy
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s%s: %s: %s", w.URL(), path, response.Status, body)
	}
	return body, err
}
