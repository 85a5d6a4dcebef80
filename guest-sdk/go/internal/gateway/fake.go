package gateway

import "context"

// Fake answers the calls of a handler in a test.
type Fake interface {
	Send(to string, message Message) error
	SendDatagram(to string, payload []byte) error
	Close(id string, code uint16, reason string) error
	InfoOf(id string) (Info, error)
	Attribute(id, name string) (string, bool, error)
	Attributes(id string) ([]Field, error)
	// SetAttribute removes the attribute when there is no value.
	SetAttribute(id, name string, value *string) error

	Join(group, id string) error
	Leave(group, id string) error
	Publish(group string, message Message, exclude *string) (uint32, error)
	Members(group string, after *string, limit uint32) ([]string, error)
	Count(group string) (uint32, error)

	Current() Invocation
	IsDatagram() bool
	// Principal returns an empty string when there is no authorizer.
	Principal() string
	// Authorizer returns values of the types string, float64 and bool.
	Authorizer() map[string]any
	// Renew takes a time in milliseconds since 1970 and checked values; it leaves the values when these are nil.
	Renew(expiresAt int64, values map[string]any) error
	Variables() []Field
}

type key struct{}

// With returns a context whose calls this fake answers.
func With(ctx context.Context, fake Fake) context.Context {
	return context.WithValue(ctx, key{}, fake)
}
