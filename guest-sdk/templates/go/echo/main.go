// A plugin that sends each message back as it came.
package main

import (
	"context"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

func main() { lockgate.Handle(plugin{}) }

// Keep nothing here: another instance may handle the next message. What belongs to a connection goes into its attributes:
// connections.SetAttribute.
type plugin struct {
	// There are Connect and Disconnect too. Defaults lets each client in, and does nothing at its end.
	lockgate.Defaults
}

// Message handles a message of a client. The returned message is the answer; nil is no answer.
func (plugin) Message(_ context.Context, _ lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	return &message, nil
}
