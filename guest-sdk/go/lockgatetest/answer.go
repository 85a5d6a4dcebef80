package lockgatetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// maxHeaders is the number of headers that a handler may add.
const maxHeaders = 64

// refusalOf returns the refusal that a client gets, for the handler's answer in $connect; nil lets it in.
func refusalOf(acceptance lockgate.Acceptance, err error, offered []string) *lockgate.Refusal {
	var refusal *lockgate.Refusal
	switch {
	case errors.As(err, &refusal):
		if refusal.Status < 300 || refusal.Status > 599 {
			return badAnswer("the status %d, and 300 to 599 refuse", refusal.Status)
		}
		return refusal
	case err != nil:
		return &lockgate.Refusal{Status: 500, Cause: err}
	}
	if chosen := acceptance.Subprotocol; chosen != "" && !slices.Contains(offered, chosen) {
		return badAnswer("the subprotocol %q, which the client does not offer", chosen)
	}
	if count := len(acceptance.Headers); count > maxHeaders {
		return badAnswer("%d headers, which are at most %d", count, maxHeaders)
	}
	for _, header := range acceptance.Headers {
		if !maySet(header.Name) || !isValue(header.Value) {
			return badAnswer("the header %q, which it may not set or which is malformed", header.Name)
		}
	}
	return nil
}

func badAnswer(what string, values ...any) *lockgate.Refusal {
	what = fmt.Sprintf(what, values...)
	return &lockgate.Refusal{Status: 502, Cause: errors.New("the $connect handler answered what cannot be sent: " + what)}
}

// maySet tells whether a text is a header's name (RFC 9110 §5.6.2), and not one of the gateway's own.
func maySet(name string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
	name = strings.ToLower(name)
	ours := []string{"connection", "upgrade", "content-length", "transfer-encoding"}
	return name != "" && strings.Trim(name, token) == "" && !slices.Contains(ours, name) &&
		!strings.HasPrefix(name, "sec-websocket-")
}

func isValue(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') })
}
