//go:build !wasip1

package gateway

import "context"

func of(ctx context.Context, function string) Fake {
	if fake, ok := ctx.Value(key{}).(Fake); ok {
		return fake
	}
	panic(function + " was called with a context that no handler was given: in a test, run the handler by lockgatetest.New")
}

func Send(ctx context.Context, to string, message Message) error {
	return of(ctx, "connections.Send").Send(to, message)
}

func SendDatagram(ctx context.Context, to string, payload []byte) error {
	return of(ctx, "connections.SendDatagram").SendDatagram(to, payload)
}

func Close(ctx context.Context, id string, code uint16, reason string) error {
	return of(ctx, "connections.Close").Close(id, code, reason)
}

func InfoOf(ctx context.Context, id string) (Info, error) {
	return of(ctx, "connections.Info").InfoOf(id)
}

func Attribute(ctx context.Context, id, name string) (string, bool, error) {
	return of(ctx, "connections.Attribute").Attribute(id, name)
}

func Attributes(ctx context.Context, id string) ([]Field, error) {
	return of(ctx, "connections.Attributes").Attributes(id)
}

func SetAttribute(ctx context.Context, id, name string, value *string) error {
	return of(ctx, "connections.SetAttribute").SetAttribute(id, name, value)
}

func Join(ctx context.Context, group, id string) error {
	return of(ctx, "groups.Join").Join(group, id)
}

func Leave(ctx context.Context, group, id string) error {
	return of(ctx, "groups.Leave").Leave(group, id)
}

func Publish(ctx context.Context, group string, message Message, exclude *string) (uint32, error) {
	return of(ctx, "groups.Publish").Publish(group, message, exclude)
}

func Members(ctx context.Context, group string, after *string, limit uint32) ([]string, error) {
	return of(ctx, "groups.Members").Members(group, after, limit)
}

func Count(ctx context.Context, group string) (uint32, error) {
	return of(ctx, "groups.Count").Count(group)
}

func Current(ctx context.Context) Invocation {
	return of(ctx, "lockgate.Current").Current()
}

func IsDatagram(ctx context.Context) bool {
	return of(ctx, "lockgate.IsDatagram").IsDatagram()
}

func Principal(ctx context.Context) string {
	return of(ctx, "lockgate.Principal").Principal()
}

func Authorizer(ctx context.Context) map[string]any {
	return of(ctx, "lockgate.Authorizer").Authorizer()
}

func Renew(ctx context.Context, expiresAt int64, values map[string]any) error {
	return of(ctx, "lockgate.Renew").Renew(expiresAt, values)
}

func Variables(ctx context.Context) []Field {
	return of(ctx, "lockgate.Variables").Variables()
}
