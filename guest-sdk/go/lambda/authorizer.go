package lambda

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// maxAnswer is the bytes of an authorizer's answer, as in API Gateway.
const maxAnswer = 8 << 10

// unauthorized is the text of the error by which an authorizer says that the client has not said who it is.
const unauthorized = "Unauthorized"

// StartAuthorizer makes a Lambda authorizer of the type REQUEST that of this program: a handler for
// events.APIGatewayCustomAuthorizerRequestTypeRequest, of any of the forms that [Start] takes.
//
//	func authorize(ctx context.Context, request events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
//		…
//	}
//
//	func main() { lambda.StartAuthorizer(authorize) }
//
// Its policy is evaluated for arn:aws:execute-api:REGION:000000000000:API/STAGE/$connect: * stands for any run of characters, ? for
// one, a Deny wins, and without an Allow that fits the client gets 403. Region and account of a whole ARN are not looked at; a
// pattern that leaves them to a wildcard means what it fits in some region and account, and one that fits no whole ARN is not understood.
// Conditions are evaluated for aws:SourceIp, aws:CurrentTime, aws:EpochTime and aws:SecureTransport. The error Unauthorized gives
// 401; any other, and an answer that is malformed, not understood or over 8 KB, 500.
func StartAuthorizer(handler any) { lockgate.Authorize(NewAuthorizer(handler)) }

// NewAuthorizer returns the authorizer for a Lambda handler, as [New] returns a plugin's handler. It panics if it is none.
func NewAuthorizer(handler any) lockgate.AuthorizeFunc {
	invoke, err := invocation(handler)
	if err != nil {
		panic("lambda.StartAuthorizer: " + err.Error())
	}
	return func(ctx context.Context, id lockgate.ConnectionID, handshake lockgate.Handshake) (lockgate.Identity, error) {
		event := newAuthorizerEvent(ctx, id, handshake)
		payload, err := json.Marshal(event)
		if err != nil {
			return lockgate.Identity{}, err
		}
		answer, err := invoke(ctx, payload)
		switch {
		case err != nil && err.Error() == unauthorized:
			return lockgate.Identity{}, lockgate.Refuse(401, "")
		case err != nil:
			return lockgate.Identity{}, err
		}
		about := event.RequestContext
		return identityOf(answer, asked{
			arn:      event.MethodArn,
			sourceIP: handshake.SourceIP,
			secure:   handshake.Secure,
			at:       time.UnixMilli(about.RequestTimeEpoch),
		})
	}
}

// authorizerEvent is the event of an authorizer of the type REQUEST.
type authorizerEvent struct {
	Type                            string              `json:"type"`
	MethodArn                       string              `json:"methodArn"`
	Headers                         map[string]string   `json:"headers"`
	MultiValueHeaders               map[string][]string `json:"multiValueHeaders"`
	QueryStringParameters           map[string]string   `json:"queryStringParameters"`
	MultiValueQueryStringParameters map[string][]string `json:"multiValueQueryStringParameters"`
	StageVariables                  map[string]string   `json:"stageVariables"`
	RequestContext                  requestContext      `json:"requestContext"`
}

func newAuthorizerEvent(ctx context.Context, id lockgate.ConnectionID, handshake lockgate.Handshake) authorizerEvent {
	current := lockgate.Current(ctx)
	userAgent, _ := handshake.Header("user-agent")
	event := authorizerEvent{
		Type:           "REQUEST",
		MethodArn:      methodArn(current.API, current.Stage),
		StageVariables: map[string]string{},
		RequestContext: requestContext{
			RouteKey:          "$connect",
			EventType:         "CONNECT",
			ExtendedRequestID: current.RequestID,
			RequestTime:       current.RequestedAt.UTC().Format(commonLogTime),
			MessageDirection:  "IN",
			Stage:             current.Stage,
			ConnectedAt:       current.RequestedAt.UnixMilli(),
			RequestTimeEpoch:  current.RequestedAt.UnixMilli(),
			Identity:          identity{UserAgent: userAgent, SourceIP: handshake.SourceIP},
			RequestID:         current.RequestID,
			DomainName:        handshake.DomainName,
			ConnectionID:      id,
			APIID:             current.API,
		},
		QueryStringParameters:           map[string]string{},
		MultiValueQueryStringParameters: map[string][]string{},
	}
	event.Headers, event.MultiValueHeaders = grouped(headersOf(handshake))
	if len(handshake.Query) > 0 {
		event.QueryStringParameters, event.MultiValueQueryStringParameters = grouped(handshake.Query)
	}
	for _, variable := range lockgate.Variables(ctx) {
		event.StageVariables[variable.Name] = variable.Value
	}
	return event
}

// methodArn returns the name by which policies mean the handshakes of a stage. There is no account.
func methodArn(api, stage string) string {
	region := os.Getenv("AWS_REGION")
	if region == "" {
		region = "us-east-1"
	}
	return fmt.Sprintf("arn:aws:execute-api:%s:000000000000:%s/%s/$connect", region, api, stage)
}

// identityOf returns the client's identity as an authorizer's answer has it, or a refusal if its policy does not allow the
// handshake.
func identityOf(answer []byte, asked asked) (lockgate.Identity, error) {
	var none lockgate.Identity
	answer = bytes.TrimSpace(answer)
	if len(answer) > maxAnswer {
		return none, malformedPolicy("it has more than 8 KB; return less context")
	}
	if len(answer) == 0 {
		return none, malformedPolicy("it is empty; return principalId and policyDocument")
	}
	// By exact names: a struct would take them in any case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return none, malformedPolicy("%w", err)
	}
	var principal, usageKey string
	var values map[string]any
	// A stage's api_key may look for usageIdentifierKey among the values.
	if err := cmp.Or(
		parseMember(members, "principalId", &principal),
		parseMember(members, "context", &values),
		parseMember(members, "usageIdentifierKey", &usageKey),
	); err != nil {
		return none, malformedPolicy("%w", err)
	}
	policy, given := members["policyDocument"]
	switch {
	case principal == "":
		return none, malformedPolicy("it has no principalId, which has to name the client")
	case !given:
		return none, malformedPolicy("it has no policyDocument with a Statement")
	}
	for name, value := range values {
		switch value.(type) {
		case string, float64, bool:
		default:
			return none, malformedPolicy("the context value %q is no string, number or bool; context is flat", name)
		}
	}
	allowed, err := allows(policy, asked)
	if err != nil {
		return none, malformedPolicy("%w", err)
	}
	if !allowed {
		return none, lockgate.Refuse(403, "")
	}
	if usageKey != "" {
		if values == nil {
			values = map[string]any{}
		}
		values["usageIdentifierKey"] = usageKey
	}
	return lockgate.Identity{Principal: principal, Values: values}, nil
}

// parseMember parses a member of an answer, if it is there.
func parseMember(members map[string]json.RawMessage, name string, value any) error {
	data, given := members[name]
	if !given {
		return nil
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func malformedPolicy(what string, values ...any) error {
	return fmt.Errorf("malformed answer of the Lambda authorizer: "+what, values...)
}
