package lockgate

import (
	"context"
	"time"

	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// Invocation has the place and time of an event.
type Invocation struct {
	// The id of this invocation in the gateway's log and in error frames.
	RequestID string
	// The API's name in the configuration.
	API string
	// The stage's name in the configuration.
	Stage string
	// The id of the message, for a message: another value than the request's. Empty for other events.
	MessageID string
	// When the event arrived.
	RequestedAt time.Time
}

// Current returns the present invocation: its request id, API, stage and time.
func Current(ctx context.Context) Invocation {
	current := gateway.Current(ctx)
	return Invocation{
		RequestID:   current.RequestID,
		API:         current.API,
		Stage:       current.Stage,
		MessageID:   current.MessageID,
		RequestedAt: time.UnixMilli(current.RequestedAt),
	}
}

// IsDatagram returns whether the message of the present event came as a datagram: it may have overtaken others, others may
// be lost, and an answer goes the way of all messages. It is false for every other event.
func IsDatagram(ctx context.Context) bool { return gateway.IsDatagram(ctx) }

// Principal returns who the client is, as the API's authorizer says; an empty string when the API has no authorizer.
func Principal(ctx context.Context) string { return gateway.Principal(ctx) }

// Authorizer returns what the API's authorizer says about the client beside the principal: values of the types string,
// float64 and bool. It is the same for every event of a connection until the client renews what let it in, and empty when
// the API has no authorizer.
func Authorizer(ctx context.Context) map[string]any { return gateway.Authorizer(ctx) }

// Renew renews what let the client of the present message in, by the handler's own judgement of what the client shows anew: it
// holds until expiresAt, which may be sooner than before. With values the client has these from now on, as [Identity] has
// them; nil leaves those that it has. Principal and scopes stay.
//
// Only a message of a route whose configuration says renews = "handler" may do that, and only for a client that an authorizer
// has let in: else the error is [ErrDenied]. It is [ErrGone], when the connection is closed or closing; [ErrInvalid], when the
// time has passed or a value cannot be one; and [ErrTooLarge], when principal, values and scopes are over 8 KiB. The last of
// several calls holds, also when the handler fails afterwards.
func Renew(ctx context.Context, expiresAt time.Time, values map[string]any) error {
	checked, err := gateway.Identity{Values: values}.Checked()
	if err != nil {
		return gateway.Invalid(err.Error())
	}
	if values == nil {
		checked.Values = nil
	}
	// The zero time, which is never in an Identity, and one before 1970 have passed.
	return gateway.Renew(ctx, max(gateway.Milliseconds(expiresAt), 0), checked.Values)
}

// Variables returns the stage's variables, ordered by name.
func Variables(ctx context.Context) Fields { return gateway.Variables(ctx) }

// Variable returns the value of a variable of the stage, and whether the stage has it.
func Variable(ctx context.Context, name string) (value string, ok bool) {
	return Variables(ctx).Get(name)
}
