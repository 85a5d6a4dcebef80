// Package lambda runs handlers that were written for AWS Lambda behind an API Gateway WebSocket API: a main that calls Start
// is a plugin, once it imports this package in place of github.com/aws/aws-lambda-go/lambda.
//
//	import (
//		"github.com/aws/aws-lambda-go/events"
//		"github.com/lockgate/lockgate/guest-sdk/go/lambda"
//	)
//
//	func handle(ctx context.Context, request events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
//		return events.APIGatewayProxyResponse{StatusCode: 200, Body: request.Body}, nil
//	}
//
//	func main() { lambda.Start(handle) }
//
// The handler gets the proxy event of API Gateway as JSON, whatever types it takes: those of the package events, or its own.
// Its response decides as there: a status that is not 2xx refuses a client in $connect; the body is the message for the
// client of a two-way route, an empty one is none. An error is the client's "Internal server error", and goes to the
// gateway's log. There is no network: package connectionsapi sends the AWS SDK's calls to the gateway.
package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// Handler is a handler that reads and writes JSON itself, as that of aws-lambda-go.
type Handler interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

// Start makes a handler the plugin of this program: a [Handler], or a function of one of these forms, where TIn and TOut are
// types for encoding/json.
//
//	func ()
//	func () error
//	func (TIn) error
//	func () (TOut, error)
//	func (TIn) (TOut, error)
//	func (context.Context) error
//	func (context.Context, TIn) error
//	func (context.Context) (TOut, error)
//	func (context.Context, TIn) (TOut, error)
//
// It returns at once: the gateway calls the handler from then on.
func Start(handler any) { lockgate.Handle(New(handler)) }

// New returns the plugin's handler for a Lambda handler: for a test by package lockgatetest, or for a plugin that passes on
// some of its events. It panics if it is none.
func New(handler any) lockgate.Handler {
	invoke, err := invocation(handler)
	if err != nil {
		panic("lambda.Start: " + err.Error())
	}
	return adapter{invoke}
}

// adapter makes each event a proxy event, and the response an answer.
type adapter struct {
	invoke func(context.Context, []byte) ([]byte, error)
}

func (a adapter) Connect(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (lockgate.Acceptance, error) {
	proxy, err := connectEvent(ctx, event, handshake)
	if err != nil {
		return lockgate.Acceptance{}, err
	}
	response, err := a.run(ctx, proxy)
	if err == nil {
		var acceptance lockgate.Acceptance
		acceptance, err = response.acceptance()
		if err == nil {
			return acceptance, nil
		}
	}
	var refusal *lockgate.Refusal
	if !errors.As(err, &refusal) {
		refusal = &lockgate.Refusal{Status: 502, Message: "Internal server error", Cause: err}
	}
	return lockgate.Acceptance{}, refusal
}

func (a adapter) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	proxy, err := messageEvent(ctx, event, message)
	if err != nil {
		return nil, err
	}
	response, err := a.run(ctx, proxy)
	if err != nil {
		return nil, err
	}
	return response.reply()
}

func (a adapter) Disconnect(ctx context.Context, event lockgate.Event, closing lockgate.Closing) {
	proxy, err := disconnectEvent(ctx, event, closing)
	if err == nil {
		_, err = a.run(ctx, proxy)
	}
	if err != nil {
		logFailure(err)
	}
}

func (a adapter) run(ctx context.Context, event proxyEvent) (*response, error) {
	payload, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	answer, err := a.invoke(ctx, payload)
	if err != nil {
		return nil, err
	}
	return parseResponse(answer)
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// invocation returns the function that calls a handler with JSON, or why it is no handler.
func invocation(handler any) (func(context.Context, []byte) ([]byte, error), error) {
	if handler, ok := handler.(Handler); ok {
		return handler.Invoke, nil
	}
	function := reflect.ValueOf(handler)
	if !function.IsValid() || function.Kind() != reflect.Func {
		return nil, fmt.Errorf("the handler is %T, and has to be a function", handler)
	}
	form := function.Type()
	takesContext := form.NumIn() > 0 && form.In(0).Kind() == reflect.Interface && contextType.Implements(form.In(0))
	inputs := form.NumIn()
	if takesContext {
		inputs--
	}
	switch {
	case inputs > 1 || form.IsVariadic():
		return nil, fmt.Errorf("the handler %s takes too much: a context.Context, then the event", form)
	case form.NumOut() > 2 || form.NumOut() > 0 && !form.Out(form.NumOut()-1).Implements(errorType):
		return nil, fmt.Errorf("the handler %s returns other results than a response and an error", form)
	}
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		var arguments []reflect.Value
		if takesContext {
			arguments = append(arguments, reflect.ValueOf(ctx))
		}
		if inputs == 1 {
			event := reflect.New(form.In(form.NumIn() - 1))
			if err := json.Unmarshal(payload, event.Interface()); err != nil {
				return nil, fmt.Errorf("the event does not fit the handler's type: %w", err)
			}
			arguments = append(arguments, event.Elem())
		}
		results := function.Call(arguments)
		if len(results) > 0 {
			if err, _ := results[len(results)-1].Interface().(error); err != nil {
				return nil, err
			}
		}
		if len(results) < 2 {
			return nil, nil
		}
		var answer bytes.Buffer
		encoder := json.NewEncoder(&answer)
		encoder.SetEscapeHTML(false)
		err := encoder.Encode(results[0].Interface())
		return answer.Bytes(), err
	}, nil
}
