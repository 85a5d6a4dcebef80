// Echo sends each message back as it came, text or binary.
package main

import (
	"context"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// echo embeds Defaults, which handle the events that it leaves out.
type echo struct{ lockgate.Defaults }

func (echo) Message(_ context.Context, _ lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	return &message, nil
}

func main() { lockgate.Handle(echo{}) }
