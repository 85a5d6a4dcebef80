package lockgatetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// maxHeaders is the number of headers that a handler may add.
const maxHeaders = 64

// refusalOf returns the refusal that a client gets, for the handler's answer in $connect; nil lets it in.
func refusalOf(acceptance lockgate.Acceptance, err error, offered []string) *lockgate.Refusal {
	var refusal *lockgate.Refusal
	switch {
	case errors.As(err, &refusal):
		if !refuses(refusal) {
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

func refuses(refusal *lockgate.Refusal) bool { return refusal.Status >= 300 && refusal.Status <= 599 }

// denialOf returns the refusal that a client gets for the error of an authorizer.
func denialOf(err error) *lockgate.Refusal {
	var refusal *lockgate.Refusal
	switch {
	case !errors.As(err, &refusal):
		return &lockgate.Refusal{Status: 500, Cause: err}
	case !refuses(refusal):
		err = fmt.Errorf("an authorizer refuses with a status from 300 to 599, and it answered %d", refusal.Status)
		return &lockgate.Refusal{Status: 500, Cause: err}
	}
	return refusal
}

// The bounds of an identity. Each value and each scope counts for 32 bytes more than it has.
const (
	maxPrincipal = 1_024
	maxIdentity  = 8 << 10
	entryBytes   = 32
)

// checked returns the identity as handlers get it, or why the gateway does not take it.
func checked(identity lockgate.Identity) (lockgate.Identity, error) {
	lowered, err := gateway.Identity(identity).Checked()
	if err != nil {
		return identity, err
	}
	identity = lockgate.Identity(lowered)
	if len(identity.Principal) > maxPrincipal || strings.ContainsFunc(identity.Principal, unicode.IsControl) {
		return identity, fmt.Errorf("the principal has at most %d bytes, and no control character", maxPrincipal)
	}
	held := len(identity.Principal)
	for name, value := range identity.Values {
		if name == "" {
			return identity, errors.New("a value has no name")
		}
		held += entryBytes + len(name)
		switch value := value.(type) {
		case string:
			held += len(value)
		case float64:
			if math.IsNaN(value) || math.IsInf(value, 0) {
				return identity, fmt.Errorf("the value %q is not a finite number", name)
			}
		}
	}
	scopes := slices.Compact(slices.Sorted(slices.Values(identity.Scopes)))
	for _, scope := range scopes {
		if scope == "" {
			return identity, errors.New("a scope has no name")
		}
		held += entryBytes + len(scope)
	}
	if held > maxIdentity {
		return identity, fmt.Errorf("%w: principal, values and scopes have %d bytes, each entry counted as %d more than it has, and %d are the limit",
			lockgate.ErrTooLarge, held, entryBytes, maxIdentity)
	}
	return identity, nil
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
