// Package gateway has the contract's types and functions. In a component the functions are imports: the files with
// wasip1 in their names are the canonical ABI by hand, where a pointer has 32 bits on the wire and 64 in Go's memory. In a
// test the fake of package lockgatetest answers them.
package gateway

import "errors"

// The cases of the contract's error that carry no reason.
var (
	ErrGone        = errors.New("the connection is gone")
	ErrBusy        = errors.New("there is no room now: the connection reads too slowly, or a limit is reached that the gateway's log names")
	ErrTooLarge    = errors.New("the message or value is over a limit that the gateway's log names")
	ErrDenied      = errors.New("the gateway's configuration does not allow it")
	ErrUnreachable = errors.New("another node of the cluster did not answer")
	ErrInvalid     = errors.New("invalid argument")
)

// Invalid returns an ErrInvalid with its reason.
func Invalid(reason string) error { return &invalid{reason} }

type invalid struct{ reason string }

func (e *invalid) Error() string        { return "invalid argument: " + e.reason }
func (e *invalid) Is(target error) bool { return target == ErrInvalid }

// Field is a name with a value.
type Field struct{ Name, Value string }

// Info has the facts about a connection; times are milliseconds since 1970, and none is the empty string.
type Info struct {
	ConnectedAt, LastActiveAt                    int64
	SourceIP, UserAgent, DomainName, Subprotocol string
}

// Invocation has the place and time of an event.
type Invocation struct {
	RequestID, API, Stage, MessageID string
	RequestedAt                      int64
}

// Message is one WebSocket message.
type Message struct {
	Data   []byte
	Binary bool
}
