package debezium

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ClientConfig tunes a Client. The zero value works.
type ClientConfig struct {
	// HTTP makes the requests; proxies, certificates and the like are its matter. Defaults to a client of net/http's defaults.
	HTTP *http.Client

	// RequestTimeout bounds one request. Kafka Connect itself gives up after 90 s and says why, so less hides the reason. Defaults to 100 s.
	RequestTimeout time.Duration

	// RetryFor is how long a request is repeated while Kafka Connect rebalances or starts. Defaults to 60 s.
	RetryFor time.Duration

	// Poll is the pause between two looks at something that is awaited. Defaults to 500 ms.
	Poll time.Duration

	// Settle is how long a state must last to count. Debezium is RUNNING before it has looked for its publication, and Kafka Connect goes on
	// showing the state of before a change for a while. Defaults to 5 s.
	Settle time.Duration
}

func (c ClientConfig) withDefaults() ClientConfig {
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 100*time.Second)
	c.RetryFor = cmp.Or(c.RetryFor, time.Minute)
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	c.Settle = cmp.Or(c.Settle, 5*time.Second)
	return c
}

func (c ClientConfig) validate() error {
	if c.RequestTimeout < 0 || c.RetryFor < 0 || c.Poll < 0 || c.Settle < 0 {
		return errors.New("client of Kafka Connect: a duration is negative")
	}
	return nil
}

// Client speaks to the REST interface of a cluster of Kafka Connect workers. It is safe for concurrent use and keeps nothing between calls.
//
// Its errors match ErrUnreachable when nobody answers, ErrNotFound when there is no such connector, ErrConflict when the workers go on
// rebalancing, and otherwise are a *ResponseError.
type Client struct {
	base *url.URL
	cfg  ClientConfig
}

// NewClient makes a client of the workers at address, for example http://127.0.0.1:8083; a user and password in it are sent with each request.
// It does not connect.
func NewClient(address string, cfg ClientConfig) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("address of Kafka Connect: want http://host:port") // without the text, which may hold a password
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Client{base: base, cfg: cfg.withDefaults()}, nil
}

// connector is the path of a connector.
func connector(name string) string { return "/connectors/" + url.PathEscape(name) }

// call sends a request until Kafka Connect is ready to answer it, and decodes the answer into out, when there is one.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	for start := time.Now(); ; {
		err := c.once(ctx, method, path, body, out)
		if !momentary(err) || time.Since(start) >= c.cfg.RetryFor {
			return err
		}
		if err := c.pause(ctx); err != nil {
			return err
		}
	}
}

// momentary reports whether Kafka Connect says itself that the same request may do later: while the workers rebalance or read their
// topics, and while the web server is up before the resources are, which then are all missing.
func momentary(err error) bool {
	var answer *ResponseError
	if !errors.As(err, &answer) {
		return false
	}
	return answer.rebalancing() || answer.Status == http.StatusServiceUnavailable || answer.Status == http.StatusNotFound && answer.foreign
}

// pause waits between two looks.
func (c *Client) pause(ctx context.Context) error {
	timer := time.NewTimer(c.cfg.Poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) once(ctx context.Context, method, path string, body []byte, out any) error {
	requestCtx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	path, query, _ := strings.Cut(path, "?")
	target := c.base.JoinPath(path) // keeps what PathEscape did
	target.RawQuery = query
	req, err := http.NewRequestWithContext(requestCtx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to the end, or given up
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		return newResponseError(method, path, resp.StatusCode, answer)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not Kafka Connect's: %w: is %s its address?", method, path, err, c.base.Redacted())
	}
	return nil
}

// maxAnswer bounds an answer; the longest, that of a validation, has some 100 kB.
const maxAnswer = 16 << 20

// unreachable says where nobody answered, and that of the caller's own giving up as it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // the rest repeats method and address
	}
	return fmt.Errorf("%w at %s: %w: start it (`walpost stack up` starts one on this machine) or give the address of yours",
		ErrUnreachable, c.base.Redacted(), err)
}

func newResponseError(method, path string, status int, answer []byte) *ResponseError {
	var said struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(answer, &said); err == nil && said.Message != "" {
		return &ResponseError{Method: method, Path: path, Status: status, Message: said.Message}
	}
	text := strings.Join(strings.Fields(string(answer)), " ")
	return &ResponseError{Method: method, Path: path, Status: status, Message: fmt.Sprintf("not an answer of Kafka Connect's: %.200q", text), foreign: true}
}
