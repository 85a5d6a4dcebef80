package gateway

import (
	"unsafe"
)

// Lifting: from the host's values to Go's. It always copies.

// Pointer makes an address of the host's a pointer.
func Pointer(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), address) }

// String lifts a string.
func String(address, length uint32) string {
	return string(unsafe.Slice((*byte)(Pointer(address)), length))
}

// Bytes lifts a list of bytes.
func Bytes(address, length uint32) []byte {
	return append(make([]byte, 0, length), unsafe.Slice((*byte)(Pointer(address)), length)...)
}

func at[T any](base unsafe.Pointer, offset uintptr) T { return *(*T)(unsafe.Add(base, offset)) }

// StringAt lifts the string at an offset.
func StringAt(base unsafe.Pointer, offset uintptr) string {
	return String(at[uint32](base, offset), at[uint32](base, offset+4))
}

// BoolAt lifts the bool at an offset.
func BoolAt(base unsafe.Pointer, offset uintptr) bool { return at[uint8](base, offset) != 0 }

// OptionalStringAt lifts the option of a string at an offset.
func OptionalStringAt(base unsafe.Pointer, offset uintptr) (string, bool) {
	if !BoolAt(base, offset) {
		return "", false
	}
	return StringAt(base, offset+OptionStringPayload), true
}

// listAt returns the first element and the number of elements of the list at an offset.
func listAt(base unsafe.Pointer, offset uintptr) (unsafe.Pointer, uintptr) {
	return Pointer(at[uint32](base, offset)), uintptr(at[uint32](base, offset+4))
}

// StringsAt lifts the list of strings at an offset.
func StringsAt(base unsafe.Pointer, offset uintptr) []string {
	first, count := listAt(base, offset)
	if count == 0 {
		return nil
	}
	texts := make([]string, count)
	for i := range texts {
		texts[i] = StringAt(first, uintptr(i)*ListStringElement)
	}
	return texts
}

// FieldsAt lifts the list of pairs of strings at an offset.
func FieldsAt(base unsafe.Pointer, offset uintptr) []Field {
	first, count := listAt(base, offset)
	if count == 0 {
		return nil
	}
	fields := make([]Field, count)
	for i := range fields {
		field := unsafe.Add(first, uintptr(i)*ListTupleStringStringElement)
		fields[i] = Field{Name: StringAt(field, TupleStringString0), Value: StringAt(field, TupleStringString1)}
	}
	return fields
}

// valuesAt lifts the list of an authorizer's values at an offset.
func valuesAt(base unsafe.Pointer, offset uintptr) map[string]any {
	first, count := listAt(base, offset)
	values := make(map[string]any, count)
	for i := range count {
		entry := unsafe.Add(first, i*ListTupleStringValueElement)
		value := unsafe.Add(entry, TupleStringValue1)
		name := StringAt(entry, TupleStringValue0)
		switch at[uint8](value, 0) {
		case ValueIsText:
			values[name] = StringAt(value, ValuePayload)
		case ValueIsNumber:
			values[name] = at[float64](value, ValuePayload)
		case ValueIsFlag:
			values[name] = BoolAt(value, ValuePayload)
		}
	}
	return values
}

// errorAt lifts the contract's error.
func errorAt(base unsafe.Pointer, offset uintptr) error {
	switch at[uint8](base, offset) {
	case ErrorIsGone:
		return ErrGone
	case ErrorIsBusy:
		return ErrBusy
	case ErrorIsTooLarge:
		return ErrTooLarge
	case ErrorIsDenied:
		return ErrDenied
	case ErrorIsUnreachable:
		return ErrUnreachable
	default:
		return Invalid(StringAt(base, offset+ErrorPayload))
	}
}
