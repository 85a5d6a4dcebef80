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

// registered returns the program's handler.
func registered() Handler {
	if handler == nil {
		programMain()
	}
	if handler == nil {
		panic("the plugin has no handler; call lockgate.Handle in main")
	}
	return handler
}

//go:wasmexport lockgate:plugin/handler@0.1.0#on-connect
func onConnect(arguments uint32) unsafe.Pointer {
	lift := gateway.Arguments()
	base := gateway.Pointer(arguments)
	event := Event{
		ConnectionID: gateway.StringAt(base, gateway.OnConnectEvent+gateway.EventConnectionID),
		RouteKey:     gateway.StringAt(base, gateway.OnConnectEvent+gateway.EventRouteKey),
	}
	request := unsafe.Add(base, gateway.OnConnectRequest)
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
	lift()
	acceptance, err := connect(event, handshake)
	gateway.Yield()
	if err != nil {
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			refusal = &Refusal{Status: 500, Cause: err}
		}
		if refusal.Cause != nil {
			printLines(levelWarn, fmt.Sprintf("refused with %d: %v", refusal.Status, refusal.Cause))
		}
		// A status that is too large for the contract's type is as wrong as this one.
		return gateway.LowerRefusal(uint16(min(uint(refusal.Status), 0xffff)), refusal.Message)
	}
	return gateway.LowerAcceptance(acceptance.Subprotocol, acceptance.Headers)
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
		return gateway.LowerFailure(err.Error())
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
