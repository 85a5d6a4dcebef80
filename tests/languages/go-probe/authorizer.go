package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// authorize does what the client's parameter `as` says.
func authorize(ctx context.Context, id lockgate.ConnectionID, request lockgate.Handshake) (lockgate.Identity, error) {
	as, ok := request.QueryParameter("as")
	switch {
	case !ok:
		return lockgate.Identity{}, lockgate.Refuse(401, "")
	case as == "refused":
		return lockgate.Identity{}, lockgate.Refuse(418, "not you")
	case as == "error":
		return lockgate.Identity{}, errors.New("no luck")
	case as == "network":
		_, err := net.Dial("tcp", "example.com:80")
		return lockgate.Identity{}, err
	case as == "files":
		_, err := os.ReadFile("/etc/hosts")
		return lockgate.Identity{}, fmt.Errorf("no hosts: %w", err)
	case as == "panic":
		panic("it cannot decide")
	case as == "no value":
		return lockgate.Identity{Values: map[string]any{"list": []int{1}}}, nil
	case as == "before 1970":
		return lockgate.Identity{ExpiresAt: time.UnixMilli(-1)}, nil
	case as == "too late":
		return lockgate.Identity{ExpiresAt: time.Unix(time.Now().UnixNano(), 0)}, nil
	case as == "broken":
		return lockgate.Identity{Principal: "a\xff", Values: map[string]any{"b\xff": "c\xff"}, Scopes: []string{"d\xff"}}, nil
	case as == "nobody":
		return lockgate.Identity{}, nil
	}
	return lockgate.Identity{
		Principal: as,
		Values:    map[string]any{"id": id, "stage": lockgate.Current(ctx).Stage, "path": request.Path, "empty": "", "number": 3, "half": 0.5, "yes": true, "no": false},
		Scopes:    []string{"write", "read"},
		ExpiresAt: time.Now().Add(time.Hour),
	}, nil
}
