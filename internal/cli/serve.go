package cli

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

// flushTimeout bounds the sending of the last spans.
const flushTimeout = 3 * time.Second

// part is what a server runs: it calls o.Health.Started when its dependencies are registered, and returns nil soon after ctx ended, having drained.
type part func(ctx context.Context, cfg config.Config, o *ops.Ops) error

// serve runs the part with its health and metrics around it: they are there before it starts, and until it has drained.
func (p *program) serve(ctx context.Context, service string, run part) (err error) {
	o := ops.New(p.log)
	o.Public = p.cfg.OpsPublic
	o.Health.Starting()
	if p.cfg.Tracing {
		flush, startErr := o.StartTracing(ctx, service)
		if startErr != nil {
			return startErr
		}
		defer func() {
			flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			err = errors.Join(err, flush(flushing))
		}()
	}
	listener, err := o.Listen(ctx, p.cfg.OpsAddr)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	defer context.AfterFunc(ctx, func() {
		p.log.Info("stopping: finishing what is in flight")
		o.Health.Stopping()
	})()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return o.ServeOn(serving, listener) })
	group.Go(func() error {
		defer stopServing()
		return run(running, p.cfg, o)
	})
	return group.Wait()
}
