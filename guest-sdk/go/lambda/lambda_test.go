package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda/connectionsapi"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

type object = map[string]any

// recorder answers as it is told, and keeps its events.
type recorder struct {
	events []object
	answer any
}

func (r *recorder) handle(_ context.Context, event object) (any, error) {
	r.events = append(r.events, event)
	if err, ok := r.answer.(error); ok {
		return nil, err
	}
	return r.answer, nil
}

func (r *recorder) last() object { return r.events[len(r.events)-1] }

func expect(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func started(t *testing.T) (*recorder, *lockgatetest.Gateway) {
	r := &recorder{answer: object{"statusCode": 200}}
	return r, lockgatetest.New(t, lambda.New(r.handle))
}

// An event as API Gateway sends it.
func TestConnectEventIsThatOfAPIGateway(t *testing.T) {
	r, gateway := started(t)
	request := lockgatetest.Handshake()
	request.Query = lockgate.Fields{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}
	request.Headers = append(request.Headers, lockgate.Field{Name: "sec-websocket-version", Value: "13"},
		lockgate.Field{Name: "x-forwarded-for", Value: "forged"})
	request.Subprotocols = []string{"x", "y"}
	id, err := gateway.ConnectWith(request)
	expect(t, err, nil)
	event := r.last()
	headers := event["headers"].(object)
	for name, value := range map[string]string{
		"Host": "gateway.example", "User-Agent": "test", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "x, y",
		"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https",
	} {
		expect(t, headers[name], value)
		expect(t, event["multiValueHeaders"].(object)[name], []any{value})
	}
	expect(t, event["queryStringParameters"], object{"a": "2"})
	expect(t, event["multiValueQueryStringParameters"], object{"a": []any{"1", "2"}})
	expect(t, event["isBase64Encoded"], false)
	_, hasBody := event["body"]
	expect(t, hasBody, false)
	about := event["requestContext"].(object)
	expect(t, about, object{
		"routeKey": "$connect", "eventType": "CONNECT", "messageDirection": "IN", "stage": "stage", "apiId": "api",
		"requestId": "request-0001", "extendedRequestId": "request-0001", "connectionId": id, "domainName": "gateway.example",
		"connectedAt": 1_700_000_000_001.0, "requestTimeEpoch": 1_700_000_000_001.0, "requestTime": "14/Nov/2023:22:13:20 +0000",
		"identity": object{"userAgent": "test", "sourceIp": "203.0.113.7"},
	})
}

// §6.2, §6.3
func TestMessageAndDisconnectEventsAreThoseOfAPIGateway(t *testing.T) {
	r, gateway := started(t)
	gateway.SetVariable("room", "attic")
	gateway.SetPrincipal("u1", object{"tenant": "t1"})
	id, _ := gateway.Connect()
	r.answer = nil
	_, err := gateway.MessageOn("send", id, lockgate.Text(`{"a":1}`))
	expect(t, err, nil)
	event := r.last()
	about := event["requestContext"].(object)
	expect(t, []any{event["body"], event["isBase64Encoded"], about["routeKey"], about["eventType"], about["messageId"]},
		[]any{`{"a":1}`, false, "send", "MESSAGE", "message-0002"})
	expect(t, about["authorizer"], object{"principalId": "u1", "tenant": "t1"})
	expect(t, event["stageVariables"], object{"room": "attic"})
	expect(t, event["headers"], nil)

	_, _ = gateway.Message(id, lockgate.Binary([]byte{0xff}))
	expect(t, []any{r.last()["body"], r.last()["isBase64Encoded"]}, []any{"/w==", true})

	gateway.DisconnectWith(id, lockgate.Closing{Code: 1005})
	about = r.last()["requestContext"].(object)
	expect(t, []any{about["eventType"], about["disconnectStatusCode"], about["disconnectReason"]}, []any{"DISCONNECT", 1005.0, ""})
	expect(t, r.last()["headers"], object{"Host": "gateway.example", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""})
}

// §5.2
func TestResponseToConnectLetsInOrRefuses(t *testing.T) {
	r, gateway := started(t)
	for _, row := range []struct {
		answer  any
		status  int
		message string
	}{
		{object{"statusCode": 200}, 0, ""},
		{object{}, 0, ""},
		{object{"statusCode": 401, "body": "no ticket"}, 401, "no ticket"},
		{object{"statusCode": 403, "body": `{"message":"no"}`}, 403, "no"},
		{object{"statusCode": 100}, 502, "Internal server error"},
		{object{"statusCode": 200, "data": 1}, 502, "Internal server error"},
		{nil, 502, "Internal server error"},
		{errors.New("no luck"), 502, "Internal server error"},
	} {
		r.answer = row.answer
		_, err := gateway.Connect()
		var refusal *lockgate.Refusal
		if errors.As(err, &refusal) != (row.status != 0) {
			t.Fatal(row, err)
		}
		if refusal != nil {
			expect(t, []any{refusal.Status, refusal.Message}, []any{row.status, row.message})
		}
	}
	request := lockgatetest.Handshake()
	request.Subprotocols = []string{"a"}
	r.answer = object{
		"statusCode": 200, "headers": object{"Sec-WebSocket-Protocol": "a", "X-One": "1", "Content-Length": "0"},
		"multiValueHeaders": object{"x-one": []string{"2", "3"}},
	}
	_, err := gateway.ConnectWith(request)
	expect(t, err, nil)
}

// §5.2, §5.3
func TestBodyIsTheAnswer(t *testing.T) {
	r, gateway := started(t)
	id, _ := gateway.Connect()
	for _, row := range []struct {
		answer any
		want   *lockgate.Message
		err    string
	}{
		{object{"statusCode": 200, "body": "hi"}, lockgate.Text("hi"), ""},
		{object{"statusCode": 500, "body": "<hi>"}, lockgate.Text("<hi>"), ""},
		{object{"body": "/w==", "isBase64Encoded": true}, lockgate.Binary([]byte{0xff}), ""},
		{object{"body": "?", "isBase64Encoded": true}, nil, "is not base64"},
		{object{"statusCode": 200}, nil, ""},
		{object{"statusCode": 200, "body": nil}, nil, ""},
		{object{"statusCode": 200, "body": ""}, lockgate.Text(""), ""},
		{nil, nil, ""},
		{object{"body": 7}, nil, "malformed Lambda proxy response"},
		{object{"ConnectionId": "x"}, nil, "malformed Lambda proxy response"},
		{"text", nil, "malformed Lambda proxy response"},
		{errors.New("no luck"), nil, "no luck"},
	} {
		r.answer = row.answer
		answer, err := gateway.Message(id, lockgate.Text("x"))
		expect(t, answer, row.want)
		if (err != nil) != (row.err != "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Fatal(row, err)
		}
	}
}

type raw struct{}

func (raw) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	var event struct{ Body string }
	if err := json.Unmarshal(payload, &event); err != nil {
		return nil, err
	}
	return json.Marshal(object{"body": "raw " + event.Body})
}

func TestEveryFormOfAHandlerIsTaken(t *testing.T) {
	type event struct{ Body string }
	answer := func(text string) (object, error) { return object{"statusCode": 200, "body": text}, nil }
	for _, row := range []struct {
		handler any
		want    string
	}{
		{func() {}, ""},
		{func() error { return nil }, ""},
		{func(event) error { return nil }, ""},
		{func() (object, error) { return answer("none") }, "none"},
		{func(e *event) (object, error) { return answer(e.Body) }, "x"},
		{func(context.Context) error { return nil }, ""},
		{func(_ context.Context, e event) (object, error) { return answer(e.Body + "!") }, "x!"},
		{raw{}, "raw x"},
	} {
		gateway := lockgatetest.New(t, messages{lambda.New(row.handler)})
		id, _ := gateway.Connect()
		answer, err := gateway.Message(id, lockgate.Text("x"))
		expect(t, err, nil)
		if row.want == "" {
			expect(t, answer, (*lockgate.Message)(nil))
		} else {
			expect(t, answer.Text(), row.want)
		}
	}
	for _, wrong := range []any{nil, 7, func(int, int, int) {}, func() int { return 0 }, func(context.Context, int, int) {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T is taken", wrong)
				}
			}()
			lambda.New(wrong)
		}()
	}
}

// messages lets every client in.
type messages struct{ lockgate.Handler }

func (messages) Connect(context.Context, lockgate.Event, lockgate.Handshake) (lockgate.Acceptance, error) {
	return lockgate.Acceptance{}, nil
}

// §7
func TestManagementAPIIsTheGateway(t *testing.T) {
	var statuses []int
	ask := func(ctx context.Context, method, path, body string) *http.Response {
		request, _ := http.NewRequestWithContext(ctx, method, "https://x.execute-api.eu-west-1.amazonaws.com/prod"+path, strings.NewReader(body))
		response, err := connectionsapi.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, response.StatusCode)
		return response
	}
	type event struct {
		Body           string
		RequestContext struct{ ConnectionID string }
	}
	handler := func(ctx context.Context, e event) (object, error) {
		own := e.RequestContext.ConnectionID
		ask(ctx, "POST", "/@connections/"+e.Body, "hello")
		response := ask(ctx, "GET", "/%40connections/"+own, "")
		var info object
		if err := json.NewDecoder(response.Body).Decode(&info); err != nil {
			return nil, err
		}
		expect(t, info, object{
			"connectedAt": "2023-11-14T22:13:20.001Z", "lastActiveAt": "2023-11-14T22:13:20.003Z",
			"identity": object{"sourceIp": "203.0.113.7", "userAgent": "test"},
		})
		gone := ask(ctx, "POST", "/@connections/nobody", "hello")
		expect(t, gone.Header.Get("X-Amzn-ErrorType"), "GoneException")
		ask(ctx, "DELETE", "/@connections/"+own, "")
		_, err := connectionsapi.Client().Get("https://example.com/")
		return object{"body": err.Error()}, nil
	}
	gateway := lockgatetest.New(t, messages{lambda.New(handler)})
	ada, _ := gateway.Connect()
	bob, _ := gateway.Connect()
	answer, err := gateway.Message(ada, lockgate.Text(bob))
	expect(t, err, nil)
	expect(t, statuses, []int{200, 200, 410, 204})
	expect(t, strings.Contains(answer.Text(), "a plugin has no network"), true)
	expect(t, gateway.Received(bob)[0].Text(), "hello")
	closing, closed := gateway.Closing(ada)
	expect(t, []any{closing.Code, closed}, []any{uint16(1000), true})
}
