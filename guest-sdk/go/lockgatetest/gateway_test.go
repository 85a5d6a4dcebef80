package lockgatetest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

// word obeys its client: the first word of a message is the call, the rest its argument.
type word struct{}

func (word) Connect(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (lockgate.Acceptance, error) {
	var acceptance lockgate.Acceptance
	id := event.ConnectionID
	if err := connections.SetAttribute(ctx, id, "name", "guest"); err != nil {
		return acceptance, err
	}
	if err := groups.Join(ctx, "lobby", id); err != nil {
		return acceptance, err
	}
	// Other connections do not see it there yet.
	if err := connections.Send(ctx, id, lockgate.Text("welcome")); err != nil {
		return acceptance, err
	}
	if _, err := groups.Publish(ctx, "lobby", lockgate.Text("someone comes")); err != nil {
		return acceptance, err
	}
	if _, no := handshake.QueryParameter("no"); no {
		return acceptance, lockgate.Refuse(403, "")
	}
	if cause, ok := handshake.QueryParameter("fail"); ok {
		return acceptance, errors.New(cause)
	}
	acceptance.Subprotocol, _ = handshake.QueryParameter("choose")
	if header, ok := handshake.QueryParameter("header"); ok {
		acceptance.Headers = lockgate.Fields{{Name: header, Value: "x"}}
	}
	return acceptance, nil
}

func (word) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	own := event.ConnectionID
	word, rest, _ := strings.Cut(message.Text(), " ")
	switch word {
	case "send":
		return nil, connections.Send(ctx, rest, lockgate.Text("hello"))
	case "publish":
		count, err := groups.Publish(ctx, "lobby", lockgate.Text(rest))
		return lockgate.Text(strconv.Itoa(count)), err
	case "others":
		_, err := groups.PublishExcept(ctx, "lobby", lockgate.Text(rest), own)
		return nil, err
	case "long":
		_, err := groups.Publish(ctx, "lobby", lockgate.Text(strings.Repeat("x", 128<<10+1)))
		return nil, err
	case "reply":
		length, _ := strconv.Atoi(rest)
		return lockgate.Text(strings.Repeat("x", length)), nil
	case "broken":
		return lockgate.Text("\xff"), nil
	case "flood":
		count := 0
		for connections.Send(ctx, own, lockgate.Text("more")) == nil {
			count++
		}
		return lockgate.Text(strconv.Itoa(count)), nil
	case "close":
		code, _ := strconv.Atoi(rest)
		return nil, connections.Close(ctx, own, uint16(code), "told to")
	case "route":
		return lockgate.Text(event.RouteKey), nil
	case "count":
		count, err := groups.Count(ctx, "lobby")
		return lockgate.Text(strconv.Itoa(count)), err
	case "room":
		room, _ := lockgate.Variable(ctx, "room")
		return lockgate.Text(room), nil
	case "who":
		return lockgate.Text(fmt.Sprint(lockgate.Principal(ctx), " ", lockgate.Authorizer(ctx))), nil
	case "current":
		return lockgate.JSON(lockgate.Current(ctx))
	case "attributes":
		name, value, _ := strings.Cut(rest, "=")
		return nil, connections.SetAttribute(ctx, own, name, value)
	default:
		return nil, errors.New("no such word")
	}
}

func (word) Disconnect(ctx context.Context, event lockgate.Event, closing lockgate.Closing) {
	id := event.ConnectionID
	// The connection is gone, and its attributes can still be read.
	if err := connections.Send(ctx, id, lockgate.Text("too late")); !errors.Is(err, lockgate.ErrGone) {
		panic(err)
	}
	name, _, _ := connections.Attribute(ctx, id, "name")
	_, err := groups.Publish(ctx, "lobby", lockgate.Text(fmt.Sprintf("%s left with %d", name, closing.Code)))
	if err != nil {
		panic(err)
	}
}

func two(t *testing.T) (gateway *lockgatetest.Gateway, ada, bob string) {
	t.Helper()
	gateway = lockgatetest.New(t, word{})
	gateway.SetVariable("room", "attic")
	ada, _ = gateway.Connect()
	bob, _ = gateway.Connect()
	gateway.Received(ada)
	gateway.Received(bob)
	gateway.Calls()
	return gateway, ada, bob
}

func expect(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// texts returns the texts of messages.
func texts(messages []lockgate.Message) []string {
	var all []string
	for _, message := range messages {
		all = append(all, message.Text())
	}
	return all
}

// say returns the answer to a text: its own, or the error's.
func say(gateway *lockgatetest.Gateway, id, text string) string {
	answer, err := gateway.Message(id, lockgate.Text(text))
	switch {
	case err != nil:
		return "error: " + err.Error()
	case answer == nil:
		return ""
	default:
		return answer.Text()
	}
}

func TestConnectingTakesEffectWhenTheClientIsLetIn(t *testing.T) {
	gateway := lockgatetest.New(t, word{})
	ada, err := gateway.Connect()
	expect(t, err, nil)
	expect(t, texts(gateway.Received(ada)), []string{"welcome"})
	expect(t, gateway.Members("lobby"), []string{ada})
	expect(t, gateway.Attributes(ada), lockgate.Fields{{Name: "name", Value: "guest"}})

	for query, status := range map[string]int{"no": 403, "fail": 500, "choose": 502, "header": 502} {
		request := lockgatetest.Handshake()
		request.Query = lockgate.Fields{{Name: query, Value: "upgrade"}}
		_, err := gateway.ConnectWith(request)
		var refusal *lockgate.Refusal
		if !errors.As(err, &refusal) || refusal.Status != status {
			t.Errorf("%s: %v", query, err)
		}
	}
	expect(t, gateway.Members("lobby"), []string{ada})

	request := lockgatetest.Handshake()
	request.Query = lockgate.Fields{{Name: "choose", Value: "b"}, {Name: "header", Value: "X-Ours"}}
	request.Subprotocols = []string{"a", "b"}
	_, err = gateway.ConnectWith(request)
	expect(t, err, nil)
}

func TestSendsAndPublishesReachTheirClientsAndAreRecorded(t *testing.T) {
	gateway, ada, bob := two(t)
	expect(t, say(gateway, ada, "send "+bob), "")
	expect(t, say(gateway, ada, "publish hi"), "2")
	expect(t, say(gateway, ada, "others psst"), "")
	expect(t, texts(gateway.Received(ada)), []string{"hi"})
	expect(t, texts(gateway.Received(bob)), []string{"hello", "hi", "psst"})
	expect(t, gateway.Calls(), []lockgatetest.Call{
		lockgatetest.Send{To: bob, Message: *lockgate.Text("hello")},
		lockgatetest.Publish{Group: "lobby", Message: *lockgate.Text("hi")},
		lockgatetest.Publish{Group: "lobby", Message: *lockgate.Text("psst"), Exclude: ada},
	})
	expect(t, say(gateway, ada, "count"), "2")
}

func TestFailuresAreThoseOfTheGateway(t *testing.T) {
	gateway, ada, bob := two(t)
	for text, answer := range map[string]string{
		"send nobody":   "error: " + lockgate.ErrGone.Error(),
		"long":          "error: " + lockgate.ErrTooLarge.Error(),
		"reply 131072":  strings.Repeat("x", 128<<10),
		"reply 131073":  "error: the handler's reply is over limits.message_kib and is not sent",
		"broken":        "error: the returned text message is not UTF-8; return lockgate.Binary for other bytes",
		"flood":         "256",
		"close 1005":    "error: invalid argument: no endpoint may send the close code 1005",
		"attributes =x": "error: invalid argument: an attribute's name is empty",
		"attributes a=" + strings.Repeat("x", 4<<10): "error: " + lockgate.ErrTooLarge.Error(),
		"fly": "error: no such word",
	} {
		expect(t, say(gateway, ada, text), answer)
	}
	gateway.Fail(bob, lockgate.ErrBusy)
	gateway.Received(ada)
	expect(t, say(gateway, ada, "publish hi"), "1")
	closing, closed := gateway.Closing(bob)
	expect(t, []any{closing.Code, closed}, []any{uint16(1013), true})
	gateway.Fail(ada, lockgate.ErrUnreachable)
	expect(t, say(gateway, ada, "publish hi"), "error: "+lockgate.ErrUnreachable.Error())
}

func TestLongMessageClosesItsClient(t *testing.T) {
	gateway, ada, bob := two(t)
	if answer := say(gateway, ada, strings.Repeat("x", 128<<10+1)); !strings.Contains(answer, "1009") {
		t.Fatal(answer)
	}
	expect(t, texts(gateway.Received(bob)), []string{"guest left with 1009"})
}

func TestEndIsToldToTheHandlerWithTheCodeOfItsClose(t *testing.T) {
	gateway, ada, bob := two(t)
	expect(t, say(gateway, ada, "close 4000"), "")
	gateway.Disconnect(ada)
	expect(t, texts(gateway.Received(bob)), []string{"guest left with 4000"})
	expect(t, gateway.Members("lobby"), []string{bob})
	expect(t, gateway.Attributes(ada)[0].Value, "guest")
}

func TestContextIsOfTheEvent(t *testing.T) {
	gateway, ada, _ := two(t)
	gateway.SetPrincipal("ada", map[string]any{"admin": true})
	expect(t, say(gateway, ada, "room"), "attic")
	expect(t, say(gateway, ada, "who"), "ada map[admin:true]")
	if current := say(gateway, ada, "current"); !strings.Contains(current, `"MessageID":"message-`) {
		t.Fatal(current)
	}
	answer, err := gateway.MessageOn("mine", ada, lockgate.Text("route"))
	expect(t, []any{answer.Text(), err}, []any{"mine", nil})
}

// plan is a type of a value that has another kind's name.
type plan string

func TestAuthorizerDecidesOnAClient(t *testing.T) {
	gateway := lockgatetest.New(t, word{})
	gateway.SetVariable("ticket", "swordfish")
	gateway.SetPrincipal("before", nil)
	authorize := func(ctx context.Context, id string, handshake lockgate.Handshake) (lockgate.Identity, error) {
		ticket, ok := handshake.QueryParameter("ticket")
		wanted, _ := lockgate.Variable(ctx, "ticket")
		switch {
		case !ok:
			return lockgate.Identity{}, lockgate.Refuse(401, "")
		case ticket == "status":
			return lockgate.Identity{}, lockgate.Refuse(200, "")
		case ticket != wanted:
			return lockgate.Identity{}, errors.New("no such ticket")
		}
		return lockgate.Identity{
			Principal: id + " " + lockgate.Principal(ctx),
			Values:    map[string]any{"plan": plan("gold"), "seats": 3, "staff": true, "share": float32(0.5)},
			Scopes:    []string{"write"},
		}, nil
	}
	for ticket, status := range map[string]int{"": 401, "marlin": 500, "status": 500, "swordfish": 0} {
		request := lockgatetest.Handshake()
		if ticket != "" {
			request.Query = lockgate.Fields{{Name: "ticket", Value: ticket}}
		}
		identity, err := gateway.Authorize(authorize, request)
		var refusal *lockgate.Refusal
		if errors.As(err, &refusal) {
			expect(t, refusal.Status, status)
			continue
		}
		expect(t, status, 0)
		expect(t, strings.HasSuffix(identity.Principal, " "), true)
		expect(t, identity.Values, map[string]any{"plan": "gold", "seats": 3.0, "staff": true, "share": 0.5})
	}
}

func TestIdentityHasTheGatewaysBounds(t *testing.T) {
	long := strings.Repeat("x", 1_024)
	room := strings.Repeat("x", 8<<10-32-1)
	for _, row := range []struct {
		identity lockgate.Identity
		taken    bool
	}{
		{lockgate.Identity{}, true},
		{lockgate.Identity{Principal: long}, true},
		{lockgate.Identity{Principal: long + "x"}, false},
		{lockgate.Identity{Principal: "a\nb"}, false},
		{lockgate.Identity{Values: map[string]any{"a": room}}, true},
		{lockgate.Identity{Values: map[string]any{"a": room + "x"}}, false},
		{lockgate.Identity{Values: map[string]any{"": true}}, false},
		{lockgate.Identity{Values: map[string]any{"a": nil}}, false},
		{lockgate.Identity{Values: map[string]any{"a": []string{"b"}}}, false},
		{lockgate.Identity{Values: map[string]any{"a": math.NaN()}}, false},
		{lockgate.Identity{Scopes: slices.Repeat([]string{"s"}, 8<<10)}, true},
		{lockgate.Identity{Scopes: []string{""}}, false},
		{lockgate.Identity{ExpiresAt: time.UnixMilli(0)}, true},
		{lockgate.Identity{ExpiresAt: time.UnixMilli(-1)}, false},
		{lockgate.Identity{ExpiresAt: time.UnixMilli(1<<53 - 1)}, true},
		{lockgate.Identity{ExpiresAt: time.UnixMilli(1 << 53)}, false},
	} {
		authorize := func(context.Context, string, lockgate.Handshake) (lockgate.Identity, error) { return row.identity, nil }
		_, err := lockgatetest.New(t, word{}).Authorize(authorize, lockgatetest.Handshake())
		if (err == nil) != row.taken {
			t.Errorf("%.80v: %v", row.identity, err)
		}
	}
}

func TestIdentityThatExpiresTooFarAheadIsToldAsThat(t *testing.T) {
	// Nanoseconds taken for seconds: the milliseconds are more than an int64 has.
	for _, at := range []time.Time{time.Unix(1_800_000_000_000_000_000, 0), time.Unix(1<<55, 0)} {
		authorize := func(context.Context, string, lockgate.Handshake) (lockgate.Identity, error) {
			return lockgate.Identity{ExpiresAt: at}, nil
		}
		_, err := lockgatetest.New(t, word{}).Authorize(authorize, lockgatetest.Handshake())
		if err == nil || !strings.Contains(err.Error(), "too far ahead") {
			t.Errorf("%v: %v", at, err)
		}
	}
}

// renewing renews what let its client in, as it is told.
type renewing struct {
	lockgate.Defaults
	until  *time.Time
	values *map[string]any
}

func (r renewing) Message(ctx context.Context, _ lockgate.Event, _ lockgate.Message) (*lockgate.Message, error) {
	if err := lockgate.Renew(ctx, *r.until, *r.values); err != nil {
		return nil, err
	}
	return lockgate.Text(fmt.Sprintf("%s %v", lockgate.Principal(ctx), lockgate.Authorizer(ctx))), nil
}

func TestHandlerRenewsWhatLetItsClientIn(t *testing.T) {
	far := time.UnixMilli(253_402_300_800_000)
	until, values := far, map[string]any(nil)
	gateway := lockgatetest.New(t, renewing{until: &until, values: &values})
	ada, _ := gateway.Connect()
	_, err := gateway.Message(ada, lockgate.Text(""))
	expect(t, err, lockgate.ErrDenied)
	gateway.SetPrincipal("ada", map[string]any{"plan": "gold"})
	for _, row := range []struct {
		until  time.Time
		values map[string]any
		err    error
	}{
		{time.Time{}, nil, lockgate.ErrInvalid},
		{time.UnixMilli(1_700_000_000), nil, lockgate.ErrInvalid},
		{time.UnixMilli(1 << 53), nil, lockgate.ErrInvalid},
		// Milliseconds of it would be a time that has passed, or any other.
		{time.Unix(1<<55, 0), nil, lockgate.ErrInvalid},
		{far, map[string]any{"": 1}, lockgate.ErrInvalid},
		{far, map[string]any{"a": math.NaN()}, lockgate.ErrInvalid},
		{far, map[string]any{"a": []int{1}}, lockgate.ErrInvalid},
		{far, map[string]any{"a": strings.Repeat("x", 8<<10)}, lockgate.ErrTooLarge},
	} {
		until, values = row.until, row.values
		if _, err := gateway.Message(ada, lockgate.Text("")); !errors.Is(err, row.err) {
			t.Errorf("%.80v: %v", row, err)
		}
	}
	expect(t, gateway.ExpiresAt(ada), time.Time{})
	for _, row := range []struct {
		values   map[string]any
		expected string
	}{
		{nil, "ada map[plan:gold]"},
		{map[string]any{"seats": 3}, "ada map[seats:3]"},
		{nil, "ada map[seats:3]"},
		{map[string]any{}, "ada map[]"},
	} {
		until, values = far, row.values
		answer, err := gateway.Message(ada, lockgate.Text(""))
		expect(t, []any{answer.Text(), err}, []any{row.expected, nil})
		expect(t, gateway.ExpiresAt(ada), far)
	}
}

// kept keeps the context of its last event.
type kept struct {
	lockgate.Defaults
	ctx *context.Context
}

func (k kept) Message(ctx context.Context, _ lockgate.Event, _ lockgate.Message) (*lockgate.Message, error) {
	*k.ctx = ctx
	return nil, nil
}

func TestContextEndsWithItsEvent(t *testing.T) {
	var ctx context.Context
	gateway := lockgatetest.New(t, kept{ctx: &ctx})
	ada, _ := gateway.Connect()
	expect(t, say(gateway, ada, ""), "")
	err := connections.Send(ctx, ada, lockgate.Text("late"))
	expect(t, errors.Is(err, context.Canceled), true)
}

func TestCallWithoutAGatewayPanicsWithTheNameOfTheFunction(t *testing.T) {
	defer func() {
		said := fmt.Sprint(recover())
		if !strings.Contains(said, "groups.Count was called") || !strings.Contains(said, "lockgatetest.New") {
			t.Fatal(said)
		}
	}()
	_, _ = groups.Count(context.Background(), "lobby")
}

// position sends each message back as a datagram, and answers whether it came as one.
type position struct{ lockgate.Defaults }

func (position) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	if err := connections.SendDatagram(ctx, event.ConnectionID, message.Data); err != nil {
		return nil, err
	}
	return lockgate.Text(strconv.FormatBool(lockgate.IsDatagram(ctx))), nil
}

func TestDatagramIsAMessageThatSaysSoAndWaitsNowhere(t *testing.T) {
	gateway := lockgatetest.New(t, position{})
	ada, _ := gateway.Connect()
	_, err := gateway.Message(ada, lockgate.Text("x"))
	expect(t, errors.Is(err, lockgate.ErrDenied), true)
	gateway.TakeDatagrams()
	// Her client does not take any.
	_, err = gateway.Message(ada, lockgate.Text("x"))
	expect(t, errors.Is(err, lockgate.ErrInvalid), true)
	bob, _ := gateway.Connect()
	answer, err := gateway.Datagram(bob, []byte("here"))
	expect(t, []any{answer.Text(), err}, []any{"true", nil})
	expect(t, say(gateway, bob, "there"), "false")
	expect(t, gateway.ReceivedDatagrams(bob), [][]byte{[]byte("here"), []byte("there")})
	expect(t, len(gateway.Received(bob)), 0)
	_, err = gateway.Message(bob, lockgate.Text(strings.Repeat("x", 1_201)))
	expect(t, errors.Is(err, lockgate.ErrTooLarge), true)
	expect(t, gateway.Calls()[0], lockgatetest.Call(lockgatetest.SendDatagram{To: ada, Payload: []byte("x")}))
}
