package lockgate

import (
	"context"
	"time"
)

// AuthorizeFunc decides who may connect, before the handler of $connect is called. An API or a stage names its authorizer in
// the configuration:
//
//	[authorizers.door]
//	plugin = "door"
//
//	[apis.chat]
//	authorizer = "door"
//
// The identity lets the client on to $connect, and is what [Principal] and [Authorizer] return in every event of the
// connection. id is the connection that the client will have if it is let in; it does not exist yet.
//
// The error of [Refuse] refuses the client as it says: with 401 when the client has not said who it is, with 403 when it may
// not connect. Any other error, a panic, and an identity over its bounds refuse it with 500, tell the client nothing, and go
// to the gateway's log.
//
// [Current] and [Variables] tell the API, the stage and its variables. Packages connections and groups are for handlers:
// nobody is connected yet.
type AuthorizeFunc func(ctx context.Context, id ConnectionID, handshake Handshake) (Identity, error)

// Identity says who a client is. Principal, values and scopes have 8 KiB together.
type Identity struct {
	// The client's name: at most 1,024 bytes, without control characters. Logs show it. Empty for a client without a name.
	Principal string
	// What else handlers are to know: strings, bools and finite numbers. Handlers get each number as a float64.
	Values map[string]any
	// What the client may do: routes of the configuration may ask for scopes.
	Scopes []string
	// When this no longer holds; the zero time is never.
	ExpiresAt time.Time
}

// Authorize makes this program decide who may connect; it may have a handler too. Call it once, in main. It returns at once:
// the gateway calls the function from then on.
func Authorize(decide AuthorizeFunc) {
	if decide == nil {
		panic("lockgate.Authorize: the function is nil")
	}
	if authorizer != nil {
		panic("lockgate.Authorize was called twice: a plugin has one authorizer")
	}
	authorizer = decide
}

var authorizer AuthorizeFunc
