// A plugin of a handler that was written for AWS Lambda: it sends each message to everyone.
package main

import (
	"context"
	"encoding/json"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda"
)

// In place of github.com/aws/aws-lambda-go/lambda. The handler stays as it is.
func main() { lambda.Start(handle) }

// What the handler reads of an event. events.APIGatewayWebsocketProxyRequest of github.com/aws/aws-lambda-go has all of it,
// and events.APIGatewayProxyResponse is the response.
type request struct {
	RequestContext struct {
		RouteKey     string `json:"routeKey"`
		ConnectionID string `json:"connectionId"`
	} `json:"requestContext"`
	Body string `json:"body"`
}

type response struct {
	StatusCode int    `json:"statusCode"`
	Body       string `json:"body,omitempty"`
}

func handle(ctx context.Context, event request) (response, error) {
	switch event.RequestContext.RouteKey {
	case "$connect":
		// A group takes the place of a table of connections. A connection leaves it when it ends.
		return response{StatusCode: 200}, groups.Join(ctx, "everyone", event.RequestContext.ConnectionID)
	case "$disconnect":
		return response{StatusCode: 200}, nil
	default:
		return say(ctx, event.Body)
	}
}

func say(ctx context.Context, body string) (response, error) {
	var message struct{ Data string }
	if err := json.Unmarshal([]byte(body), &message); err != nil {
		return response{StatusCode: 400, Body: `Send {"data": "…"}`}, nil
	}
	_, err := groups.Publish(ctx, "everyone", lockgate.Text(message.Data))
	return response{StatusCode: 200}, err
}
