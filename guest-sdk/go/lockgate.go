// Package lockgate is the SDK for writing [Lockgate] plugins in Go.
//
// A plugin handles the events of WebSocket connections: a client connects, sends messages, is gone. Implement [Handler],
// give it to [Handle], and build a component by `lockgate build`:
//
//	package main
//
//	import (
//		"context"
//		"strings"
//
//		lockgate "github.com/lockgate/lockgate/guest-sdk/go"
//	)
//
//	type shout struct{ lockgate.Defaults }
//
//	func (shout) Message(_ context.Context, _ lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
//		return lockgate.Text(strings.ToUpper(message.Text())), nil
//	}
//
//	func main() { lockgate.Handle(shout{}) }
//
// # Reaching other connections
//
// Package connections sends to a connection by its id, closes it, and keeps its attributes. Package groups sends to many
// at once. [Current], [Variables] and [Principal] tell the place and time of an event, and who the client is. A plugin
// that calls a function of connections or of groups needs the operator's grant for it. Each function takes the context
// that the handler was given.
//
// # Deciding who may connect
//
// A function that main gives to [Authorize] decides who may connect to the APIs whose configuration names the plugin as their
// authorizer. A plugin may have a handler too.
//
// # Goroutines
//
// An instance handles one event at a time. A handler may start goroutines, sleep and wait; but between events nothing
// runs, so that a handler waits for its goroutines before it returns.
//
// # Logs
//
// The gateway's log has the lines that a plugin prints, by log/slog with their level, by log and fmt as plain lines, with
// the plugin, the connection and the request id.
//
// # Tests
//
// The SDK also builds for the machine that you work on, so that `go test` runs a plugin's tests: package lockgatetest
// stands in for the gateway.
//
// [Lockgate]: https://github.com/lockgate/lockgate
package lockgate

import "context"

// Handler has the functions of a plugin, one for each kind of event of a connection. Embed [Defaults] to leave out those
// that a plugin does not need.
//
// The events of one connection come one after the other: its connect first, then its messages in the order in which they
// arrived, then its disconnect. The context ends at the event's deadline, and with the event.
//
// The gateway decides which instance of the component gets an event. With isolation = "per-message" it is a new one each
// time. With isolation = "reused" it is any idle one, which may have served other connections, and which may be thrown
// away after the event. So a connection's state goes into its attributes: what a handler keeps in memory is a cache that
// may be lost, and that every client shares.
//
// A panic is a failure, with its stack in the gateway's log. In a goroutine of the handler's own it ends the instance.
type Handler interface {
	// Connect lets a new client in or refuses it: the route $connect. The client waits for the answer.
	//
	// The connection does not exist for anyone else yet. The handler may already set its attributes, add it to groups and
	// send to it. All of that takes effect when the client is let in, and is forgotten when it is refused.
	//
	// The error of [Refuse] refuses the client as it says. Any other error refuses it with status 500, tells the client
	// nothing, and goes to the gateway's log.
	Connect(ctx context.Context, event Event, handshake Handshake) (Acceptance, error)

	// Message handles one message: the route $default, or a route with a key of your own.
	//
	// A two-way route sends the returned message to the client, a one-way route drops it; nil sends nothing. An error goes
	// to the gateway's log, and the client gets the error frame "Internal server error" on either kind of route.
	Message(ctx context.Context, event Event, message Message) (*Message, error)

	// Disconnect handles the end of a connection: the route $disconnect. It is called once for each client that was let in.
	//
	// The connection is gone for everyone and has left its groups; here its attributes and its info can still be read.
	Disconnect(ctx context.Context, event Event, closing Closing)
}

// Defaults is a handler that lets every client in, drops its messages, and does nothing at the end.
type Defaults struct{}

func (Defaults) Connect(context.Context, Event, Handshake) (Acceptance, error) {
	return Acceptance{}, nil
}

func (Defaults) Message(context.Context, Event, Message) (*Message, error) { return nil, nil }

func (Defaults) Disconnect(context.Context, Event, Closing) {}

// Handle makes a handler the plugin of this program. Call it once, in main. It returns at once: the gateway calls the
// handler from then on.
func Handle(plugin Handler) {
	if plugin == nil {
		panic("lockgate.Handle: the handler is nil")
	}
	if handler != nil {
		panic("lockgate.Handle was called twice: a plugin has one handler, and routes tell its messages apart")
	}
	handler = plugin
}

var handler Handler
