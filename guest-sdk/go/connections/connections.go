// Package connections reaches the open connections of the same API and stage. It needs the grant connections.
//
// Every function takes the context of a handler, and the id of any connection of the stage, the event's own or another. An
// id of another API or stage counts as unknown. Errors are those of package lockgate, and the context's own once the event
// is over.
package connections

import (
	"context"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// ConnectionInfo has the facts about a connection.
type ConnectionInfo struct {
	// When the client was let in.
	ConnectedAt time.Time
	// When the last message went either way.
	LastActiveAt time.Time
	// The address that the client connects from, without port. Behind trusted proxies it is the address that they name.
	SourceIP string
	// The User-Agent of the client's request; empty if it sent none.
	UserAgent string
	// The host of the client's request, in lower case, without port and without the root's dot.
	DomainName string
	// The subprotocol that the handler chose; empty for none.
	Subprotocol string
}

// Send queues a message for a connection. Messages from one invocation arrive in the order in which they were sent. It
// does not wait, except in a cluster for a connection of another node: two seconds at most, then it fails with
// [lockgate.ErrUnreachable].
//
// Fails with [lockgate.ErrGone]; with [lockgate.ErrBusy], when the connection reads too slowly and its queue is full, or
// when this invocation has used up its sends and publishes (256 unless configured); and with [lockgate.ErrTooLarge], when
// the message is over the stage's limit.
func Send(ctx context.Context, to lockgate.ConnectionID, message *lockgate.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.Send(ctx, to, gateway.Message(*message))
}

// SendDatagram sends a datagram to a client that speaks WebTransport. It may be lost, or overtake others and messages, and
// none waits for room: one that finds none is dropped. A nil error says that nothing is wrong with it, not that it arrives;
// one to a client that has not been let in yet is dropped.
//
// Fails with [lockgate.ErrGone]; with [lockgate.ErrBusy], when this invocation has used up its sends and publishes; with
// [lockgate.ErrDenied], when the stage's datagrams is off; with [lockgate.ErrInvalid], when the client takes no datagrams,
// as a WebSocket does not; and with [lockgate.ErrTooLarge], when it is over the stage's limit of a message, or does not fit
// into a packet: 1,100 bytes always do.
func SendDatagram(ctx context.Context, to lockgate.ConnectionID, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.SendDatagram(ctx, to, payload)
}

// Close closes a connection after the messages queued for it. Its client has 25 seconds to take them; the rest is dropped.
//
// The code is 1000, 1001, 1002, 1003, 1007 to 1014, or 3000 to 4999; the reason has at most 123 bytes. Fails with
// [lockgate.ErrInvalid] for any other code or reason, and with [lockgate.ErrGone] when the connection is closed or closing.
func Close(ctx context.Context, id lockgate.ConnectionID, code uint16, reason string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.Close(ctx, id, code, reason)
}

// Info returns the facts about a connection. Fails with [lockgate.ErrGone].
func Info(ctx context.Context, id lockgate.ConnectionID) (ConnectionInfo, error) {
	if err := ctx.Err(); err != nil {
		return ConnectionInfo{}, err
	}
	info, err := gateway.InfoOf(ctx, id)
	if err != nil {
		return ConnectionInfo{}, err
	}
	return ConnectionInfo{
		ConnectedAt:  time.UnixMilli(info.ConnectedAt),
		LastActiveAt: time.UnixMilli(info.LastActiveAt),
		SourceIP:     info.SourceIP,
		UserAgent:    info.UserAgent,
		DomainName:   info.DomainName,
		Subprotocol:  info.Subprotocol,
	}, nil
}

// Attribute returns the value of an attribute of a connection, and whether it is set. Fails with [lockgate.ErrGone].
//
// Attributes are small texts, such as a name, a room or a tenant. They live as long as the connection, and every handler
// of the stage sees them.
func Attribute(ctx context.Context, id lockgate.ConnectionID, name string) (value string, set bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	return gateway.Attribute(ctx, id, name)
}

// Attributes returns all attributes of a connection, ordered by name. Fails with [lockgate.ErrGone].
func Attributes(ctx context.Context, id lockgate.ConnectionID) (lockgate.Fields, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return gateway.Attributes(ctx, id)
}

// SetAttribute sets an attribute of a connection.
//
// Fails with [lockgate.ErrGone]; with [lockgate.ErrInvalid], when the name is empty; and with [lockgate.ErrTooLarge], when
// the connection's attributes, names and values together and 8 bytes for each, are over the stage's limit (4 KiB unless configured).
func SetAttribute(ctx context.Context, id lockgate.ConnectionID, name, value string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.SetAttribute(ctx, id, name, &value)
}

// RemoveAttribute removes an attribute of a connection. Removing an attribute that is not set is no error. Fails with
// [lockgate.ErrGone], and with [lockgate.ErrInvalid] when the name is empty.
func RemoveAttribute(ctx context.Context, id lockgate.ConnectionID, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.SetAttribute(ctx, id, name, nil)
}
