// A plugin that lets in whoever has a ticket that a backend has signed, and tells each client who it is.
//
// The backend and this plugin share a secret, which the configuration gives the plugin as TICKET_SECRET. Who has logged in at
// the backend gets a ticket from it, and connects with ?ticket=….
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

func main() {
	lockgate.Authorize(authorize)
	lockgate.Handle(whoami{})
}

// authorize decides on a client. The gateway refuses a ticket whose time is over, and closes the connection when it comes:
// on_expiry in gateway.toml.
func authorize(_ context.Context, _ lockgate.ConnectionID, request lockgate.Handshake) (lockgate.Identity, error) {
	text, ok := request.QueryParameter("ticket")
	if !ok {
		return lockgate.Identity{}, lockgate.Refuse(401, "connect with ?ticket=…")
	}
	secret := os.Getenv("TICKET_SECRET")
	if secret == "" {
		return lockgate.Identity{}, errors.New("TICKET_SECRET is not set")
	}
	ticket, ok := readTicket(text, []byte(secret))
	if !ok {
		return lockgate.Identity{}, lockgate.Refuse(403, "this is no ticket of ours")
	}
	return lockgate.Identity{
		Principal: ticket.name,
		Values:    map[string]any{"plan": ticket.plan},
		ExpiresAt: ticket.expires,
	}, nil
}

// whoami reads what the authorizer says of a client: here in the same plugin, as well in any other.
type whoami struct{ lockgate.Defaults }

func (whoami) Message(ctx context.Context, _ lockgate.Event, _ lockgate.Message) (*lockgate.Message, error) {
	return lockgate.Text(fmt.Sprintf("%s (%v)", lockgate.Principal(ctx), lockgate.Authorizer(ctx)["plan"])), nil
}
