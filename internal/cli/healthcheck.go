package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

// probeTimeout is longer than the server gives its own checks.
const probeTimeout = 5 * time.Second

func newHealthcheckCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running server whether it is ready; exit 3 when it is not",
		Long: `Ask a running server of this machine whether it is ready and print what it depends on. For images without a shell or curl.
Exit code 0: ready, 3: not ready, or nobody answers.`,
		Example: "  walpost healthcheck --ops-addr 127.0.0.1:9466   # the relay's",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := probe(cmd.Context(), p.cfg.OpsAddr)
			if err != nil {
				return unhealthy("server at %s does not answer: %w: start it, or name its address with --ops-addr", p.cfg.OpsAddr, err)
			}
			if err := p.printReport(report); err != nil {
				return err
			}
			if report.Status == ops.StatusError {
				return unhealthy("server at %s is not ready: %s", p.cfg.OpsAddr, failing(report))
			}
			return nil
		},
	}
	config.Flags(cmd.Flags(), "ops-addr")
	return cmd
}

func probe(ctx context.Context, addr string) (ops.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return ops.Report{}, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ops.Report{}, innermost(err)
	}
	defer func() { _ = response.Body.Close() }() // read to the end or given up
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return ops.Report{}, fmt.Errorf("it answers %s, which no server of walpost does", response.Status)
	}
	var report ops.Report
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, 1<<20)).Decode(&report); err != nil {
		return ops.Report{}, fmt.Errorf("its answer is not a health report: %w", err)
	}
	return report, nil
}

func (p *program) printReport(report ops.Report) error {
	rows := [][]string{{"ENTITY", "STATE", "ERROR"}}
	for _, c := range report.Checks {
		rows = append(rows, []string{c.Name, string(c.Status), c.Error})
	}
	return p.print(report, rows)
}

func failing(report ops.Report) string {
	var parts []string
	for _, c := range report.Checks {
		if c.Status == ops.StatusError {
			parts = append(parts, c.Name+": "+c.Error)
		}
	}
	return strings.Join(parts, "; ")
}
