package lockgate

import "encoding/json"

// Message is one WebSocket message, whole: fragments have been joined.
type Message struct {
	// The bytes; in a text message always valid UTF-8.
	Data []byte
	// Whether it is a binary message; otherwise it is a text.
	Binary bool
}

// Text returns a text message. It must be valid UTF-8.
func Text(text string) *Message { return &Message{Data: []byte(text)} }

// Binary returns a binary message. It does not copy the bytes.
func Binary(data []byte) *Message { return &Message{Data: data, Binary: true} }

// JSON returns a text message with a value as JSON. Its two results are those of [Handler]'s Message:
//
//	return lockgate.JSON(answer)
func JSON(value any) (*Message, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return &Message{Data: data}, nil
}

// Text returns the message's bytes as a string.
func (message Message) Text() string { return string(message.Data) }
