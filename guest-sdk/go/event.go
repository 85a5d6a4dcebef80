package lockgate

import (
	"strings"

	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// ConnectionID is the name of one open connection: opaque, unguessable, safe in a URL, and never used again once the
// connection has ended. Compare it, store it, send it to other clients; do not take it apart.
type ConnectionID = string

// Field is a name with a value. Names of headers are lower case.
type Field = gateway.Field

// Fields are names with values, in order; a name may occur more than once.
type Fields []Field

// Get returns the value of a name, the first if there are several, and whether there is one.
func (fields Fields) Get(name string) (value string, ok bool) {
	for _, field := range fields {
		if field.Name == name {
			return field.Value, true
		}
	}
	return "", false
}

// Event has the values that come with every event. [Current] and connections.Info give the rest.
type Event struct {
	// The connection that the event belongs to.
	ConnectionID ConnectionID
	// The key of the route that was selected: $connect, $disconnect, $default, or a key of the configuration.
	RouteKey string
}

// Handshake is the client's request to connect.
type Handshake struct {
	// The query string's parameters, percent-decoded, in order.
	Query Fields
	// The request's headers, with names in lower case. They are the same for every version of HTTP: host comes first,
	// several cookie headers are joined by "; ", and the headers that only open a WebSocket over HTTP/1.1 (connection,
	// upgrade, sec-websocket-key) are left out. So are values that are not UTF-8.
	Headers Fields
	// The subprotocols that the client offers, most wanted first.
	Subprotocols []string
	// The address that the client connects from, without port, such as 203.0.113.7 or 2001:db8::1. Behind trusted proxies
	// it is the address that they name. Do not read it from a header: anyone can write one.
	SourceIP string
	// The host of the request, in lower case, without port and without the root's dot.
	DomainName string
	// The path of the request as the client wrote it, without the query.
	Path string
	// The version of HTTP that the client speaks: 1.1, 2 or 3.
	HTTPVersion string
	// Whether the client connects over TLS. Behind trusted proxies it is what they say of the client.
	Secure bool
	// The subject of the client's certificate (RFC 4514), when the listener asks for one and the client has it; empty
	// otherwise.
	CertificateSubject string
}

// QueryParameter returns the value of a parameter of the query string, the first if there are several, and whether there
// is one.
func (handshake Handshake) QueryParameter(name string) (value string, ok bool) {
	return handshake.Query.Get(name)
}

// Header returns the value of a header, the first if there are several, and whether there is one. The case of the name
// does not matter.
func (handshake Handshake) Header(name string) (value string, ok bool) {
	return handshake.Headers.Get(strings.ToLower(name))
}

// Acceptance lets a client in.
type Acceptance struct {
	// One of the subprotocols that the client offered; empty for none.
	Subprotocol string
	// Headers to add to the 101 response, at most 64. Connection, Upgrade, Content-Length, Transfer-Encoding and every
	// Sec-WebSocket-* are the gateway's own.
	Headers Fields
}

// Closing tells how a connection ended.
type Closing struct {
	// The close code (RFC 6455 §7.4): the client's own, the gateway's, 1005 when the client sent none, 1006 when the
	// connection was lost without a close frame.
	Code uint16
	// The reason that came with the code; may be empty.
	Reason string
}
