package lockgate

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// A program that is built as a library does not run its main: the first event does.
//
//go:linkname programMain main.main
func programMain()

var mainHasRun bool

// runMain runs the program's main, unless an event before has.
func runMain() {
	if !mainHasRun {
		mainHasRun = true
		programMain()
	}
}

// registered returns the program's handler.
func registered() Handler {
	runMain()
	if handler == nil {
		panic("the plugin has no handler; call lockgate.Handle in main")
	}
	return handler
}

// lockgate build leaves this export out of the component, unless Authorize is in the program.
//
//go:wasmexport lockgate:plugin/authorizer@0.1.0#authorize
func onAuthorize(arguments uint32) unsafe.Pointer {
	lift := gateway.Arguments()
	base := gateway.Pointer(arguments)
	id := gateway.StringAt(base, gateway.AuthorizeID)
	handshake := liftHandshake(unsafe.Add(base, gateway.AuthorizeRequest))
	lift()
	identity, err := authorize(id, handshake)
	gateway.Yield()
	var checked gateway.Identity
	if err == nil {
		checked, err = gateway.Identity(identity).Checked()
	}
	if err != nil {
		return lowerRefusal(gateway.AuthorizeResultPayload, err)
	}
	return gateway.LowerIdentity(checked)
}

func authorize(id ConnectionID, handshake Handshake) (identity Identity, err error) {
	ctx := beginEvent()
	defer ctx.end()
	defer recovered(&err)
	runMain()
	if authorizer == nil {
		panic("the plugin has no authorizer; call lockgate.Authorize in main")
	}
	return authorizer(ctx, id, handshake)
}

//go:wasmexport lockgate:plugin/handler@0.1.0#on-connect
func onConnect(arguments uint32) unsafe.Pointer {
	lift := gateway.Arguments()
	base := gateway.Pointer(arguments)
	event := Event{
		ConnectionID: gateway.StringAt(base, gateway.OnConnectEvent+gateway.EventConnectionID),
		RouteKey:     gateway.StringAt(base, gateway.OnConnectEvent+gateway.EventRouteKey),
	}
	handshake := liftHandshake(unsafe.Add(base, gateway.OnConnectRequest))
	lift()
	acceptance, err := connect(event, handshake)
	gateway.Yield()
	if err != nil {
		return lowerRefusal(gateway.OnConnectResultPayload, err)
	}
	return gateway.LowerAcceptance(acceptance.Subprotocol, acceptance.Headers)
}

// liftHandshake lifts a client's request, which handlers and authorizers get alike.
func liftHandshake(request unsafe.Pointer) Handshake {
	handshake := Handshake{
		Query:        gateway.FieldsAt(request, gateway.HandshakeQuery),
		Headers:      gateway.FieldsAt(request, gateway.HandshakeHeaders),
		Subprotocols: gateway.StringsAt(request, gateway.HandshakeSubprotocols),
		SourceIP:     gateway.StringAt(request, gateway.HandshakeSourceIP),
		DomainName:   gateway.StringAt(request, gateway.HandshakeDomainName),
		Path:         gateway.StringAt(request, gateway.HandshakePath),
		HTTPVersion:  gateway.StringAt(request, gateway.HandshakeHTTPVersion),
		Secure:       gateway.BoolAt(request, gateway.HandshakeSecure),
	}
	handshake.CertificateSubject, _ = gateway.OptionalStringAt(request, gateway.HandshakeCertificateSubject)
	return handshake
}

// lowerRefusal lowers the answer that refuses a client, at the offset of the result's payload, and prints its cause.
func lowerRefusal(payload uintptr, err error) unsafe.Pointer {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		refusal = &Refusal{Status: 500, Cause: err}
	} else if refusal.Status == 500 && refusal.Message == "" {
		// A gateway with compat = "aws" takes a refusal with 500 and without a text for an error: this one is meant.
		refusal = &Refusal{Status: 500, Message: "Internal Server Error", Cause: refusal.Cause}
	}
	if refusal.Cause != nil {
		printLines(levelWarn, fmt.Sprintf("refused with %d: %s", refusal.Status, explained(refusal.Cause)))
	}
	// A status that is too large for the contract's type is as wrong as this one.
	return gateway.LowerRefusal(payload, uint16(min(uint(refusal.Status), 0xffff)), refusal.Message)
}

func connect(event Event, handshake Handshake) (acceptance Acceptance, err error) {
	ctx := beginEvent()
	defer ctx.end()
	defer recovered(&err)
	return registered().Connect(ctx, event, handshake)
}

//go:wasmexport lockgate:plugin/handler@0.1.0#on-message
func onMessage(id, idLength, route, routeLength, kind, data, length uint32) unsafe.Pointer {
	lift := gateway.Arguments()
	event := Event{ConnectionID: gateway.String(id, idLength), RouteKey: gateway.String(route, routeLength)}
	received := Message{Data: gateway.Bytes(data, length), Binary: kind == gateway.MessageIsBinary}
	lift()
	answer, err := message(event, received)
	gateway.Yield()
	if err == nil && answer != nil && !answer.Binary && !utf8.Valid(answer.Data) {
		err = errors.New("the returned text message is not UTF-8; return lockgate.Binary for other bytes")
	}
	if err != nil {
		return gateway.LowerFailure(explained(err))
	}
	return gateway.LowerMessage((*gateway.Message)(answer))
}

func message(event Event, received Message) (answer *Message, err error) {
	ctx := beginEvent()
	defer ctx.end()
	defer recovered(&err)
	return registered().Message(ctx, event, received)
}

//go:wasmexport lockgate:plugin/handler@0.1.0#on-disconnect
func onDisconnect(id, idLength, route, routeLength, code, reason, reasonLength uint32) {
	lift := gateway.Arguments()
	event := Event{ConnectionID: gateway.String(id, idLength), RouteKey: gateway.String(route, routeLength)}
	closing := Closing{Code: uint16(code), Reason: gateway.String(reason, reasonLength)}
	lift()
	disconnect(event, closing)
	gateway.Yield()
}

func disconnect(event Event, closing Closing) {
	ctx := beginEvent()
	defer ctx.end()
	var err error
	defer recovered(&err)
	registered().Disconnect(ctx, event, closing)
}

// explained returns an error's text. To what the network and the file system say where there is none, such as "connection
// reset by peer", it adds that. It knows the types by name: package net would make each plugin a megabyte larger.
func explained(err error) string {
	missing, isPath := "", false
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		switch fmt.Sprintf("%T", inner) {
		case "*net.OpError", "*net.DNSError":
			missing = "network"
		case "*fs.PathError":
			isPath = true
		case "syscall.Errno":
			// Of embedded files, the reason is no number of the system.
			if missing == "" && isPath {
				missing = "files"
			}
		}
	}
	if missing == "" {
		return err.Error()
	}
	return err.Error() + "; a plugin has no " + missing
}
