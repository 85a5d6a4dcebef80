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
		text    string
		data    []byte
		fields  []Field
		entries [][4]uint32
	}
)

// No result is larger.
const _ = uint(len(answer)*8 - max(OnConnectResultSize, OnMessageResultSize))

func put[T any](offset uintptr, value T) { *(*T)(unsafe.Add(unsafe.Pointer(&answer), offset)) = value }

// address of a value on the heap, or in static memory: these do not move.
func address[T any](first *T) uint32 { return uint32(uintptr(unsafe.Pointer(first))) }

func putText(offset uintptr, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD")
	lowered.text = text
	put(offset, address(unsafe.StringData(text)))
	put(offset+4, uint32(len(text)))
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
	put(0, uint8(0))
	acceptance := uintptr(OnConnectResultPayload)
	putOptionalText(acceptance+AcceptanceSubprotocol, subprotocol)
	lowered.fields = make([]Field, len(headers))
	lowered.entries = make([][4]uint32, len(headers))
	for i, header := range headers {
		header.Name = strings.ToValidUTF8(header.Name, "\uFFFD")
		header.Value = strings.ToValidUTF8(header.Value, "\uFFFD")
		lowered.fields[i] = header
		lowered.entries[i] = [4]uint32{
			address(unsafe.StringData(header.Name)), uint32(len(header.Name)),
			address(unsafe.StringData(header.Value)), uint32(len(header.Value)),
		}
	}
	put(acceptance+AcceptanceHeaders, address(unsafe.SliceData(lowered.entries)))
	put(acceptance+AcceptanceHeaders+4, uint32(len(headers)))
	return unsafe.Pointer(&answer)
}

// LowerRefusal lowers the answer of on-connect that refuses the client.
func LowerRefusal(status uint16, message string) unsafe.Pointer {
	put(0, uint8(1))
	refusal := uintptr(OnConnectResultPayload)
	put(refusal+RefusalStatus, status)
	putOptionalText(refusal+RefusalMessage, message)
	return unsafe.Pointer(&answer)
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
	put(0, uint8(1))
	putText(OnMessageResultPayload, reason)
	return unsafe.Pointer(&answer)
}
