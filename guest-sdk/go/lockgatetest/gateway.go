// Package lockgatetest has a gateway for the tests of a handler: it runs the handler where `go test` runs, without a
// component, a socket or a configuration.
//
//	func TestRelay(t *testing.T) {
//		gateway := lockgatetest.New(t, relay{})
//		ada, _ := gateway.Connect()
//		bob, _ := gateway.Connect()
//
//		answer, err := gateway.Message(ada, lockgate.Text(bob+" hello"))
//		if err != nil || answer.Text() != "sent" {
//			t.Fatal(answer, err)
//		}
//		received := gateway.Received(bob)
//		…
//	}
//
// It answers as the gateway does under the defaults of its configuration: calls in Connect take effect when the client is
// let in, a connection leaves its groups when it ends, arguments that can never be right are [lockgate.ErrInvalid], and the
// limits of attributes, groups, messages and sends are the default ones. [Gateway.Fail] makes it refuse sends that it would
// take.
//
// It has its bounds: it runs no two events at once, knows no routes but the ones that you name, interrupts no handler that
// takes too long, and drops no answer, since the configuration says which routes are two-way. A panic of the handler is the
// test's; in a component it is a failure.
package lockgatetest

import (
	"context"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// Gateway has a handler behind every route.
type Gateway struct {
	t       testing.TB
	handler lockgate.Handler
	state   *state
}

// New returns a gateway with the API api and its stage stage, which has no variables. A mistake of the test itself, such as
// an event of a connection that has ended, ends the test.
func New(t testing.TB, handler lockgate.Handler) *Gateway {
	return &Gateway{t: t, handler: handler, state: newState()}
}

// SetVariable gives the stage a variable.
func (g *Gateway) SetVariable(name, value string) { g.state.variables[name] = value }

// SetPrincipal makes an authorizer say who the clients are, and further values of the types string, float64 and bool.
func (g *Gateway) SetPrincipal(principal string, values map[string]any) {
	g.state.principal, g.state.authorizer = principal, values
}

// TakeDatagrams gives the stage datagrams = true, and makes the clients that connect from now on speak WebTransport and take
// them. Without it, connections.SendDatagram fails with [lockgate.ErrDenied].
func (g *Gateway) TakeDatagrams() { g.state.takesDatagrams = true }

// Handshake returns the request of a plain client.
func Handshake() lockgate.Handshake {
	return lockgate.Handshake{
		Headers: lockgate.Fields{
			{Name: "host", Value: "gateway.example"},
			{Name: "user-agent", Value: "test"},
		},
		SourceIP:    "203.0.113.7",
		DomainName:  "gateway.example",
		Path:        "/stage",
		HTTPVersion: "1.1",
		Secure:      true,
	}
}

// Connect connects a client, as [Handshake] makes its request.
func (g *Gateway) Connect() (lockgate.ConnectionID, error) { return g.ConnectWith(Handshake()) }

// ConnectWith connects a client with this request, and returns the id of its connection. The error is a *lockgate.Refusal:
// the handler's own; or one with 500 for another error of the handler; or, as the gateway does, one with 502 and the cause
// when the handler's answer cannot be sent.
//
//	request := lockgatetest.Handshake()
//	request.Query = lockgate.Fields{{Name: "name", Value: "ada"}}
//	ada, err := gateway.ConnectWith(request)
func (g *Gateway) ConnectWith(handshake lockgate.Handshake) (lockgate.ConnectionID, error) {
	id := g.state.open(handshake)
	var acceptance lockgate.Acceptance
	var err error
	g.run(id, "$connect", func(ctx context.Context, event lockgate.Event) {
		acceptance, err = g.handler.Connect(ctx, event, handshake)
	})
	if refusal := refusalOf(acceptance, err, handshake.Subprotocols); refusal != nil {
		g.state.turnAway(id)
		return "", refusal
	}
	g.state.letIn(id, acceptance.Subprotocol)
	return id, nil
}

// Authorize asks an authorizer about a client with this request. The error is a *lockgate.Refusal: the authorizer's own; or one
// with 500 and the cause for another error, or for an identity that the gateway does not take. Numbers of the identity are
// float64, as handlers get them.
//
// Nobody is connected by it: [Gateway.SetPrincipal] says who the clients are that connect.
func (g *Gateway) Authorize(decide lockgate.AuthorizeFunc, handshake lockgate.Handshake) (lockgate.Identity, error) {
	// The gateway knows nothing of the client yet.
	principal, values := g.state.principal, g.state.authorizer
	g.SetPrincipal("", nil)
	defer g.SetPrincipal(principal, values)
	id := g.state.open(handshake)
	defer g.state.turnAway(id)
	var identity lockgate.Identity
	var err error
	g.run(id, "$connect", func(ctx context.Context, _ lockgate.Event) {
		identity, err = decide(ctx, id, handshake)
	})
	if err == nil {
		identity, err = checked(identity)
	}
	if err != nil {
		return lockgate.Identity{}, denialOf(err)
	}
	return identity, nil
}

// Message sends a message from a client to the route $default, and returns the handler's answer.
//
// The limit of a message is the gateway's: a client that sends more is closed with 1009, and a longer answer is an error.
func (g *Gateway) Message(id lockgate.ConnectionID, message *lockgate.Message) (*lockgate.Message, error) {
	g.t.Helper()
	return g.MessageOn("$default", id, message)
}

// MessageOn is Message to the route with this key.
func (g *Gateway) MessageOn(routeKey string, id lockgate.ConnectionID, message *lockgate.Message) (*lockgate.Message, error) {
	g.t.Helper()
	return g.deliver(routeKey, id, message, false)
}

// Datagram sends a datagram from a client to the route $default: a binary message for which [lockgate.IsDatagram] is true. It
// returns the handler's answer.
func (g *Gateway) Datagram(id lockgate.ConnectionID, payload []byte) (*lockgate.Message, error) {
	g.t.Helper()
	return g.DatagramOn("$default", id, payload)
}

// DatagramOn is Datagram to the route with this key.
func (g *Gateway) DatagramOn(routeKey string, id lockgate.ConnectionID, payload []byte) (*lockgate.Message, error) {
	g.t.Helper()
	if !g.connection(id).takesDatagrams {
		g.t.Fatalf("the client of %q takes no datagrams: call TakeDatagrams before it connects", id)
	}
	return g.deliver(routeKey, id, lockgate.Binary(payload), true)
}

func (g *Gateway) deliver(routeKey string, id lockgate.ConnectionID, message *lockgate.Message, isDatagram bool) (*lockgate.Message, error) {
	g.t.Helper()
	g.openConnection(id)
	if len(message.Data) > maxMessage {
		g.DisconnectWith(id, lockgate.Closing{Code: 1009, Reason: "message too big"})
		return nil, errors.New("the client's message is over limits.message_kib: it was closed with 1009")
	}
	var answer *lockgate.Message
	var err error
	g.state.begin(id, routeKey, isDatagram)
	g.handle(id, routeKey, func(ctx context.Context, event lockgate.Event) {
		answer, err = g.handler.Message(ctx, event, *message)
	})
	switch {
	case err != nil || answer == nil:
		return nil, err
	case len(answer.Data) > maxMessage:
		return nil, errors.New("the handler's reply is over limits.message_kib and is not sent")
	case !answer.Binary && !utf8.Valid(answer.Data):
		return nil, errors.New("the returned text message is not UTF-8; return lockgate.Binary for other bytes")
	}
	return answer, nil
}

// Disconnect ends a connection: with the code of the handler's close, or by its client with 1000.
func (g *Gateway) Disconnect(id lockgate.ConnectionID) {
	g.t.Helper()
	closing, closed := g.Closing(id)
	if !closed {
		closing = lockgate.Closing{Code: 1000}
	}
	g.DisconnectWith(id, closing)
}

// DisconnectWith ends a connection with this code and reason; 1006 is the code of a client that was lost without a close
// frame.
func (g *Gateway) DisconnectWith(id lockgate.ConnectionID, closing lockgate.Closing) {
	g.t.Helper()
	g.openConnection(id)
	g.state.end(id)
	g.run(id, "$disconnect", func(ctx context.Context, event lockgate.Event) {
		g.handler.Disconnect(ctx, event, closing)
	})
}

// Received returns the messages that the handler has sent and published to a client since the last such call, in order.
// Answers to the client's own messages are not among them.
func (g *Gateway) Received(id lockgate.ConnectionID) []lockgate.Message {
	g.t.Helper()
	connection := g.connection(id)
	received := connection.received
	connection.received = nil
	return received
}

// ReceivedDatagrams returns the datagrams that the handler has sent to a client since the last such call, in order.
func (g *Gateway) ReceivedDatagrams(id lockgate.ConnectionID) [][]byte {
	g.t.Helper()
	connection := g.connection(id)
	datagrams := connection.datagrams
	connection.datagrams = nil
	return datagrams
}

// Calls returns the handler's calls since the last such call, in order: sends, publishes and closes, also those that
// failed.
func (g *Gateway) Calls() []Call {
	calls := g.state.calls
	g.state.calls = nil
	return calls
}

// Closing returns the code and reason with which the handler has closed a connection, and whether it has; 1013 when a
// publish found no room there.
func (g *Gateway) Closing(id lockgate.ConnectionID) (lockgate.Closing, bool) {
	g.t.Helper()
	closing := g.connection(id).closing
	if closing == nil {
		return lockgate.Closing{}, false
	}
	return *closing, true
}

// Fail makes every further message to this connection fail with this error; nil ends that.
//
// A send returns the error. A publish continues as the gateway's does: a member with [lockgate.ErrBusy] is closed with 1013
// and, like one with [lockgate.ErrGone], not counted; any other error is the publish's own.
func (g *Gateway) Fail(id lockgate.ConnectionID, err error) {
	g.t.Helper()
	g.connection(id).fails = err
}

// Members returns the members of a group, ordered by id.
func (g *Gateway) Members(group string) []lockgate.ConnectionID { return g.state.membersOf(group) }

// ExpiresAt returns until when holds what let a client in; the zero time until a handler renews it with lockgate.Renew, as a
// message of any route may here.
func (g *Gateway) ExpiresAt(id lockgate.ConnectionID) time.Time {
	g.t.Helper()
	return g.connection(id).expiresAt
}

// Attributes returns the attributes of a connection, ordered by name; after its end, its last ones.
func (g *Gateway) Attributes(id lockgate.ConnectionID) lockgate.Fields {
	g.t.Helper()
	return sorted(g.connection(id).attributes)
}

// run runs the handler for one event that is no message.
func (g *Gateway) run(id, routeKey string, handle func(context.Context, lockgate.Event)) {
	g.state.begin(id, routeKey, false)
	g.handle(id, routeKey, handle)
}

func (g *Gateway) handle(id, routeKey string, handle func(context.Context, lockgate.Event)) {
	ctx, end := context.WithCancel(gateway.With(context.Background(), g.state))
	defer end()
	handle(ctx, lockgate.Event{ConnectionID: id, RouteKey: routeKey})
}

func (g *Gateway) connection(id string) *connection {
	g.t.Helper()
	connection, ok := g.state.connections[id]
	if !ok {
		g.t.Fatalf("there is no connection %q: Connect gives the ids of those there are", id)
	}
	return connection
}

func (g *Gateway) openConnection(id string) {
	g.t.Helper()
	if g.connection(id).life != open {
		g.t.Fatalf("the connection %q has ended: it has no events any more", id)
	}
}
