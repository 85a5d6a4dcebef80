package lockgate

import (
	"strconv"

	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// The reasons why the gateway did not do a call, for errors.Is. Each says what a handler can do next.
var (
	// ErrGone: no such connection, or not any more. Forget the id.
	ErrGone = gateway.ErrGone
	// ErrBusy: there is no room now. The connection reads too slowly or is in as many groups as it may, or this invocation
	// has used up its sends. Drop the message, or try again in a later invocation. The gateway's log names the limit and
	// its value.
	ErrBusy = gateway.ErrBusy
	// ErrTooLarge: the message or the value is over its limit. Send less.
	ErrTooLarge = gateway.ErrTooLarge
	// ErrDenied: the operator's configuration does not allow it.
	ErrDenied = gateway.ErrDenied
	// ErrUnreachable: another node of the cluster did not answer. It is not known whether the call was done there; it is
	// not done any more once two seconds have passed since the call. A gateway that is alone never says this.
	ErrUnreachable = gateway.ErrUnreachable
	// ErrInvalid: an argument that can never be right. A mistake in the handler; the error's text has the reason.
	ErrInvalid = gateway.ErrInvalid
)

// Refusal is an error that refuses a client; see [Refuse].
type Refusal struct {
	// The HTTP status of the response, 300 to 599.
	Status int
	// The text for the client in the body, as {"message": …}. Empty sends the status's own phrase.
	Message string
	// The error for the gateway's log, if any. The client never gets it.
	Cause error
}

// Refuse returns the error by which [Handler]'s Connect refuses a client, with an HTTP status of 300 to 599 and a text for
// the client in the body; an empty one sends the status's own phrase.
//
//	return lockgate.Acceptance{}, lockgate.Refuse(403, "members only")
func Refuse(status int, message string) *Refusal {
	return &Refusal{Status: status, Message: message}
}

func (refusal *Refusal) Error() string {
	text := "refused with " + strconv.Itoa(refusal.Status)
	if refusal.Message != "" {
		text += " (" + refusal.Message + ")"
	}
	if refusal.Cause != nil {
		text += ": " + refusal.Cause.Error()
	}
	return text
}

func (refusal *Refusal) Unwrap() error { return refusal.Cause }
