package gateway

import (
	"context"
	"syscall"
	"unicode/utf8"
	"unsafe"
)

//go:wasmimport lockgate:plugin/connections@0.1.0 send
func importSend(to string, kind uint32, data *byte, length uint32, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 send-datagram
func importSendDatagram(to string, data *byte, length uint32, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 close
func importClose(id string, code uint32, reason string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 info
func importInfo(id string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 attribute
func importAttribute(id, name string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 attributes
func importAttributes(id string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/connections@0.1.0 set-attribute
func importSetAttribute(id, name string, set bool, value string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/groups@0.1.0 join
func importJoin(group, id string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/groups@0.1.0 leave
func importLeave(group, id string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/groups@0.1.0 publish
func importPublish(group string, kind uint32, data *byte, length uint32, hasExclude bool, exclude string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/groups@0.1.0 members
func importMembers(group string, hasAfter bool, after string, limit uint32, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/groups@0.1.0 count
func importCount(group string, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/context@0.1.0 current
func importCurrent(result unsafe.Pointer)

//go:wasmimport lockgate:plugin/context@0.1.0 time-left
func importTimeLeft() uint32

//go:wasmimport lockgate:plugin/context@0.1.0 is-datagram
func importIsDatagram() uint32

//go:wasmimport lockgate:plugin/context@0.1.0 principal
func importPrincipal(result unsafe.Pointer)

//go:wasmimport lockgate:plugin/context@0.1.0 authorizer
func importAuthorizer(result unsafe.Pointer)

//go:wasmimport lockgate:plugin/context@0.1.0 renew
func importRenew(expiresAt uint64, hasValues bool, values unsafe.Pointer, count uint32, result unsafe.Pointer)

//go:wasmimport lockgate:plugin/context@0.1.0 variables
func importVariables(result unsafe.Pointer)

//go:wasmimport wasi:cli/environment@0.2.0 get-environment
func importGetEnvironment(result unsafe.Pointer)

// An area for the result of an import.
type area [10]uint64

// No result is larger.
const _ = uint(len(area{})*8 - max(InfoResultSize, CurrentResultSize))

// Imports write here: a goroutine's stack may move, which holds a local variable.
var results area

// ask calls an import and returns its result. Another goroutine may call before it is lifted, so that it is a copy.
// The caller has begun to lift.
func ask(function func(result unsafe.Pointer)) area {
	memory.importing = true
	function(unsafe.Pointer(&results))
	memory.importing = false
	return results
}

// failed returns the error of a result, if it is one.
func (result *area) failed(payload uintptr) error {
	if base := unsafe.Pointer(result); BoolAt(base, 0) {
		return errorAt(base, payload)
	}
	return nil
}

// checkText refuses what is no string for the host: it ends the instance.
func checkText(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return Invalid("a text is not UTF-8")
		}
	}
	return nil
}

func checkMessage(message Message) error {
	if !message.Binary && !utf8.Valid(message.Data) {
		return Invalid("the text message is not UTF-8")
	}
	return nil
}

func kind(message Message) uint32 {
	if message.Binary {
		return MessageIsBinary
	}
	return MessageIsText
}

func Send(_ context.Context, to string, message Message) error {
	if err := checkText(to); err != nil {
		return err
	}
	if err := checkMessage(message); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) {
		importSend(to, kind(message), unsafe.SliceData(message.Data), uint32(len(message.Data)), result)
	})
	return result.failed(SendResultPayload)
}

func SendDatagram(_ context.Context, to string, payload []byte) error {
	if err := checkText(to); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) {
		importSendDatagram(to, unsafe.SliceData(payload), uint32(len(payload)), result)
	})
	return result.failed(SendDatagramResultPayload)
}

func Close(_ context.Context, id string, code uint16, reason string) error {
	if err := checkText(id, reason); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importClose(id, uint32(code), reason, result) })
	return result.failed(CloseResultPayload)
}

func InfoOf(_ context.Context, id string) (Info, error) {
	if err := checkText(id); err != nil {
		return Info{}, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importInfo(id, result) })
	if err := result.failed(InfoResultPayload); err != nil {
		return Info{}, err
	}
	info := unsafe.Add(unsafe.Pointer(&result), InfoResultPayload)
	userAgent, _ := OptionalStringAt(info, ConnectionInfoUserAgent)
	subprotocol, _ := OptionalStringAt(info, ConnectionInfoSubprotocol)
	return Info{
		ConnectedAt:  at[int64](info, ConnectionInfoConnectedAt),
		LastActiveAt: at[int64](info, ConnectionInfoLastActiveAt),
		SourceIP:     StringAt(info, ConnectionInfoSourceIP),
		UserAgent:    userAgent,
		DomainName:   StringAt(info, ConnectionInfoDomainName),
		Subprotocol:  subprotocol,
	}, nil
}

func Attribute(_ context.Context, id, name string) (string, bool, error) {
	if err := checkText(id, name); err != nil {
		return "", false, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importAttribute(id, name, result) })
	if err := result.failed(AttributeResultPayload); err != nil {
		return "", false, err
	}
	value, set := OptionalStringAt(unsafe.Pointer(&result), AttributeResultPayload)
	return value, set, nil
}

func Attributes(_ context.Context, id string) ([]Field, error) {
	if err := checkText(id); err != nil {
		return nil, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importAttributes(id, result) })
	if err := result.failed(AttributesResultPayload); err != nil {
		return nil, err
	}
	return FieldsAt(unsafe.Pointer(&result), AttributesResultPayload), nil
}

func SetAttribute(_ context.Context, id, name string, value *string) error {
	var text string
	if value != nil {
		text = *value
	}
	if err := checkText(id, name, text); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importSetAttribute(id, name, value != nil, text, result) })
	return result.failed(SetAttributeResultPayload)
}

func Join(_ context.Context, group, id string) error {
	if err := checkText(group, id); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importJoin(group, id, result) })
	return result.failed(JoinResultPayload)
}

func Leave(_ context.Context, group, id string) error {
	if err := checkText(group, id); err != nil {
		return err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importLeave(group, id, result) })
	return result.failed(LeaveResultPayload)
}

func Publish(_ context.Context, group string, message Message, exclude *string) (uint32, error) {
	var id string
	if exclude != nil {
		id = *exclude
	}
	if err := checkText(group, id); err != nil {
		return 0, err
	}
	if err := checkMessage(message); err != nil {
		return 0, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) {
		data, length := unsafe.SliceData(message.Data), uint32(len(message.Data))
		importPublish(group, kind(message), data, length, exclude != nil, id, result)
	})
	if err := result.failed(PublishResultPayload); err != nil {
		return 0, err
	}
	return at[uint32](unsafe.Pointer(&result), PublishResultPayload), nil
}

func Members(_ context.Context, group string, after *string, limit uint32) ([]string, error) {
	var id string
	if after != nil {
		id = *after
	}
	if err := checkText(group, id); err != nil {
		return nil, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importMembers(group, after != nil, id, limit, result) })
	if err := result.failed(MembersResultPayload); err != nil {
		return nil, err
	}
	return StringsAt(unsafe.Pointer(&result), MembersResultPayload), nil
}

func Count(_ context.Context, group string) (uint32, error) {
	if err := checkText(group); err != nil {
		return 0, err
	}
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importCount(group, result) })
	if err := result.failed(CountResultPayload); err != nil {
		return 0, err
	}
	return at[uint32](unsafe.Pointer(&result), CountResultPayload), nil
}

func Current(_ context.Context) Invocation {
	lifting()
	defer lifted()
	result := ask(importCurrent)
	base := unsafe.Pointer(&result)
	messageID, _ := OptionalStringAt(base, InvocationMessageID)
	return Invocation{
		RequestID:   StringAt(base, InvocationRequestID),
		API:         StringAt(base, InvocationAPI),
		Stage:       StringAt(base, InvocationStage),
		MessageID:   messageID,
		RequestedAt: at[int64](base, InvocationRequestedAt),
	}
}

// TimeLeft returns how long the present event may go on, in milliseconds.
func TimeLeft() uint32 { return importTimeLeft() }

func IsDatagram(_ context.Context) bool { return importIsDatagram() != 0 }

func Principal(_ context.Context) string {
	lifting()
	defer lifted()
	result := ask(importPrincipal)
	principal, _ := OptionalStringAt(unsafe.Pointer(&result), 0)
	return principal
}

func Authorizer(_ context.Context) map[string]any {
	lifting()
	defer lifted()
	result := ask(importAuthorizer)
	return valuesAt(unsafe.Pointer(&result), 0)
}

func Renew(_ context.Context, expiresAt int64, values map[string]any) error {
	// The host has read the result of the export before.
	lowered.texts, lowered.values = nil, make([][3]uint64, 0, len(values))
	for name, value := range values {
		lowered.values = append(lowered.values, lowerValue(name, value))
	}
	first, count := unsafe.Pointer(unsafe.SliceData(lowered.values)), uint32(len(values))
	lifting()
	defer lifted()
	result := ask(func(result unsafe.Pointer) { importRenew(uint64(expiresAt), values != nil, first, count, result) })
	return result.failed(RenewResultPayload)
}

func Variables(_ context.Context) []Field {
	lifting()
	defer lifted()
	result := ask(importVariables)
	return FieldsAt(unsafe.Pointer(&result), 0)
}

// WASI's environment comes from the plugin's configuration. Go's own way to it is not there.
func init() {
	lifting()
	defer lifted()
	result := ask(importGetEnvironment)
	for _, variable := range FieldsAt(unsafe.Pointer(&result), 0) {
		_ = syscall.Setenv(variable.Name, variable.Value) // fails for a name that is no variable's
	}
}
