package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/walpost/walpost/internal/devstack"
)

const (
	sampleEmail   = "sample@example.com"
	sampleTimeout = 30 * time.Second
)

// sample registers somebody through the API, as anybody would, and reports in one line when the mail has come and the notification is SENT. A sample
// that does not arrive is no failure of dev: the page shows where it stands.
func (d *dev) sample(ctx context.Context) string {
	ctx, cancel := context.WithTimeoutCause(ctx, sampleTimeout, fmt.Errorf("not within %s", sampleTimeout))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections() // else the API would wait for them when it stops
	began := time.Now()
	event, err := d.deliverSample(ctx, client)
	switch {
	case err == nil:
		return fmt.Sprintf("Sample registration delivered in %d ms: http://%s/events/%s\n", time.Since(began).Milliseconds(), d.where.console, event)
	case errors.Is(context.Cause(ctx), errInterrupted):
		return ""
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Sprintf("Sample registration not delivered: %v; see how far it came: http://%s\n", err, d.where.console)
}

// deliverSample returns the event's id.
func (d *dev) deliverSample(ctx context.Context, client *http.Client) (event string, err error) {
	var accepted struct {
		ID string `json:"notification_id"`
	}
	users := "http://" + d.where.api + "/api/v1/users"
	if err := call(ctx, client, http.MethodPost, users, sampleBody(sampleEmail), http.StatusAccepted, &accepted); err != nil {
		return "", err
	}
	mail, err := d.mails.Wait(ctx, func(m devstack.Mail) bool { return slices.Contains(m.To, sampleEmail) })
	if err != nil {
		return "", err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var notification struct {
			State string `json:"state"`
		}
		address := "http://" + d.where.api + "/api/v1/notifications/" + accepted.ID
		if err := call(ctx, client, http.MethodGet, address, "", http.StatusOK, &notification); err != nil {
			return "", err
		}
		if notification.State == "SENT" {
			event, _, _ = strings.Cut(mail.MessageID, "@")
			return event, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func sampleBody(email string) string {
	return `{"email":"` + email + `","password":"this-sample-password"}`
}

// call asks the API and decodes its answer.
func call(ctx context.Context, client *http.Client, method, url, body string, want int, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read to the end
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != want {
		return fmt.Errorf("%s %s answers %s: %s", method, url, response.Status, text)
	}
	return json.Unmarshal(text, answer)
}
