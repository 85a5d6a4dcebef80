package lockgate

import (
	"context"
	"time"

	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// eventContext is the context of one event. It asks the gateway for the deadline when somebody wants to know it: most
// handlers do not.
type eventContext struct {
	deadline time.Time
	done     chan struct{}
	timer    *time.Timer
	err      error
}

func beginEvent() *eventContext { return &eventContext{} }

func (ctx *eventContext) Deadline() (time.Time, bool) {
	if ctx.deadline.IsZero() {
		ctx.deadline = time.Now().Add(time.Duration(gateway.TimeLeft()) * time.Millisecond)
	}
	return ctx.deadline, true
}

func (ctx *eventContext) Done() <-chan struct{} {
	if ctx.done != nil {
		return ctx.done
	}
	ctx.done = make(chan struct{})
	if ctx.err != nil {
		close(ctx.done)
		return ctx.done
	}
	deadline, _ := ctx.Deadline()
	ctx.timer = time.AfterFunc(time.Until(deadline), func() { ctx.cancel(context.DeadlineExceeded) })
	return ctx.done
}

func (ctx *eventContext) Err() error { return ctx.err }

func (ctx *eventContext) Value(any) any { return nil }

func (ctx *eventContext) String() string { return "lockgate.Event" }

// end ends the context with its event: a goroutine that the handler has left behind does nothing in the name of a later
// one.
func (ctx *eventContext) end() { ctx.cancel(context.Canceled) }

func (ctx *eventContext) cancel(err error) {
	if ctx.err != nil {
		return
	}
	ctx.err = err
	if ctx.timer != nil {
		ctx.timer.Stop()
	}
	if ctx.done != nil {
		close(ctx.done)
	}
}
