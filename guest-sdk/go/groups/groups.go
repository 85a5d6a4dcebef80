// Package groups has the named sets of connections of the same API and stage. It needs the grant groups.
//
// A group exists while it has members. A connection leaves its groups when it ends. Every function takes the context of a
// handler. Errors are those of package lockgate, and the context's own once the event is over.
package groups

import (
	"context"
	"math"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// OfPrincipal returns the name of the group that has the connections of a principal, as the API's authorizer names it, for as
// long as each is open: publish to it, list it, count it. No connection joins or leaves it by itself.
func OfPrincipal(principal string) string {
	return "$principal/" + principal
}

// Join adds a connection to a group. Joining twice is joining once.
//
// Fails with [lockgate.ErrGone]; with [lockgate.ErrInvalid], unless the group's name has 1 to 128 bytes; and with
// [lockgate.ErrBusy], when the connection is in as many groups as the stage allows (64 unless configured).
func Join(ctx context.Context, group string, id lockgate.ConnectionID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.Join(ctx, group, id)
}

// Leave takes a connection out of a group. Leaving a group that it is not in is no error. Fails with [lockgate.ErrGone].
func Leave(ctx context.Context, group string, id lockgate.ConnectionID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return gateway.Leave(ctx, group, id)
}

// Publish queues a message for every member of a group, and never waits. It returns the number of members that it was
// queued for.
//
// A member whose queue is full is closed with 1013 and not counted, so that no client misses a message without knowing.
// A publish counts as one send of this invocation, however many members there are. Fails with [lockgate.ErrTooLarge], and
// with [lockgate.ErrBusy] when this invocation has used up its sends. In a cluster it never fails for a node that is out of
// reach: such a node's members are not counted.
func Publish(ctx context.Context, group string, message *lockgate.Message) (int, error) {
	return publish(ctx, group, message, nil)
}

// PublishExcept publishes to all but one connection, most often the sender.
func PublishExcept(ctx context.Context, group string, message *lockgate.Message, exclude lockgate.ConnectionID) (int, error) {
	return publish(ctx, group, message, &exclude)
}

func publish(ctx context.Context, group string, message *lockgate.Message, exclude *string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	count, err := gateway.Publish(ctx, group, gateway.Message(*message), exclude)
	return int(count), err
}

// Members returns the members of a group, ordered by id: at most limit of them (1 to 1,000), after the id after, which is
// empty for the first ones. Fails with [lockgate.ErrInvalid] for another limit; in a cluster with
// [lockgate.ErrUnreachable], after two seconds at most.
//
// To list a large group, call again with the last id:
//
//	for after := ""; ; {
//		page, err := groups.Members(ctx, "lobby", after, 100)
//		if err != nil || len(page) == 0 {
//			return err
//		}
//		…
//		after = page[len(page)-1]
//	}
func Members(ctx context.Context, group string, after lockgate.ConnectionID, limit int) ([]lockgate.ConnectionID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var last *string
	if after != "" {
		last = &after
	}
	// No other number is wrong in the same way.
	if limit < 0 || limit > math.MaxUint32 {
		limit = 0
	}
	return gateway.Members(ctx, group, last, uint32(limit))
}

// Count returns the number of members of a group; 0 when there is no such group. In a cluster it waits for the other nodes,
// two seconds at most, and fails with [lockgate.ErrUnreachable].
func Count(ctx context.Context, group string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	count, err := gateway.Count(ctx, group)
	return int(count), err
}
