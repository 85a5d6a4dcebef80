package gateway

import (
	"strings"
	"unsafe"
)

// Lowering: from Go's values to the host's. The result of an export lies in a fixed area; lowered holds everything that it
// points at until the next export returns, so that nothing has to be freed after it.

var (
	answer  [8]uint64
	lowered struct {
		texts   []string
		data    []byte
		entries [][4]uint32
		scopes  [][2]uint32
		values  [][3]uint64
	}
)

// No result is larger.
const _ = uint(len(answer)*8 - max(OnConnectResultSize, OnMessageResultSize, AuthorizeResultSize))

func put[T any](offset uintptr, value T) { *(*T)(unsafe.Add(unsafe.Pointer(&answer), offset)) = value }

// begin begins the result of an export that has texts: the case of the result, and no text of the one before.
func begin(which uint8) {
	lowered.texts = nil
	put(0, which)
}

// address of a value on the heap, or in static memory: these do not move.
func address[T any](first *T) uint32 { return uint32(uintptr(unsafe.Pointer(first))) }

// keep returns the address and length of a text, which stays where it is until lowered has other texts.
func keep(text string) [2]uint32 {
	text = strings.ToValidUTF8(text, "\uFFFD")
	lowered.texts = append(lowered.texts, text)
	return [2]uint32{address(unsafe.StringData(text)), uint32(len(text))}
}

func putText(offset uintptr, text string) { put(offset, keep(text)) }

// putList lowers a list whose elements are kept.
func putList[T any](offset uintptr, elements []T) {
	put(offset, [2]uint32{address(unsafe.SliceData(elements)), uint32(len(elements))})
}

// putOptionalText lowers the option of a string; an empty one is none.
func putOptionalText(offset uintptr, text string) {
	put(offset, uint8(0))
	if text != "" {
		put(offset, uint8(1))
		putText(offset+OptionStringPayload, text)
	}
}

// LowerAcceptance lowers the answer of on-connect that lets the client in.
func LowerAcceptance(subprotocol string, headers []Field) unsafe.Pointer {
	begin(0)
	acceptance := uintptr(OnConnectResultPayload)
	putOptionalText(acceptance+AcceptanceSubprotocol, subprotocol)
	lowered.entries = make([][4]uint32, len(headers))
	for i, header := range headers {
		name, value := keep(header.Name), keep(header.Value)
		lowered.entries[i] = [4]uint32{name[0], name[1], value[0], value[1]}
	}
	putList(acceptance+AcceptanceHeaders, lowered.entries)
	return unsafe.Pointer(&answer)
}

// LowerRefusal lowers the answer of on-connect or authorize that refuses the client, by the offset of the result's payload.
func LowerRefusal(payload uintptr, status uint16, message string) unsafe.Pointer {
	begin(1)
	put(payload+RefusalStatus, status)
	putOptionalText(payload+RefusalMessage, message)
	return unsafe.Pointer(&answer)
}

// LowerIdentity lowers the answer of authorize that lets the client on. The identity has been checked.
func LowerIdentity(identity Identity) unsafe.Pointer {
	begin(0)
	base := uintptr(AuthorizeResultPayload)
	putOptionalText(base+IdentityPrincipal, identity.Principal)
	lowered.values = make([][3]uint64, 0, len(identity.Values))
	for name, value := range identity.Values {
		lowered.values = append(lowered.values, lowerValue(name, value))
	}
	putList(base+IdentityValues, lowered.values)
	lowered.scopes = make([][2]uint32, len(identity.Scopes))
	for i, scope := range identity.Scopes {
		lowered.scopes[i] = keep(scope)
	}
	putList(base+IdentityScopes, lowered.scopes)
	put(base+IdentityExpiresAt, uint8(0))
	if !identity.ExpiresAt.IsZero() {
		put(base+IdentityExpiresAt, uint8(1))
		put(base+IdentityExpiresAt+OptionU64Payload, uint64(identity.ExpiresAt.UnixMilli()))
	}
	return unsafe.Pointer(&answer)
}

// An element of the list of values has three words.
const _ = uint(ListTupleStringValueElement-24) + uint(24-ListTupleStringValueElement)

// lowerValue lowers a named value of an identity.
func lowerValue(name string, value any) (element [3]uint64) {
	base := unsafe.Pointer(&element)
	variant := unsafe.Add(base, TupleStringValue1)
	payload := unsafe.Add(variant, ValuePayload)
	*(*[2]uint32)(unsafe.Add(base, TupleStringValue0)) = keep(name)
	switch value := value.(type) {
	case string:
		*(*uint8)(variant) = ValueIsText
		*(*[2]uint32)(payload) = keep(value)
	case float64:
		*(*uint8)(variant) = ValueIsNumber
		*(*float64)(payload) = value
	case bool:
		*(*uint8)(variant) = ValueIsFlag
		*(*bool)(payload) = value
	}
	return element
}

// LowerMessage lowers the answer of on-message; none is nil.
func LowerMessage(message *Message) unsafe.Pointer {
	put(0, uint8(0))
	option := uintptr(OnMessageResultPayload)
	if message == nil {
		put(option, uint8(0))
		return unsafe.Pointer(&answer)
	}
	put(option, uint8(1))
	lowered.data = message.Data
	put(option+OptionMessagePayload, uint8(kind(*message)))
	put(option+OptionMessagePayload+MessagePayload, address(unsafe.SliceData(message.Data)))
	put(option+OptionMessagePayload+MessagePayload+4, uint32(len(message.Data)))
	return unsafe.Pointer(&answer)
}

// LowerFailure lowers the answer of on-message that is a failure.
func LowerFailure(reason string) unsafe.Pointer {
	begin(1)
	putText(OnMessageResultPayload, reason)
	return unsafe.Pointer(&answer)
}
