package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

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
// Its policy is evaluated for arn:aws:execute-api:REGION:000000000000:API/STAGE/$connect, of which region and account are not
// looked at: * stands for any run of characters, ? for one, a Deny wins, and without an Allow that fits the client gets 403. The
// error Unauthorized gives 401; any other, and an answer that is malformed or over 8 KB, 500.
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
		return identityOf(answer, event.MethodArn)
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
func identityOf(answer []byte, arn string) (lockgate.Identity, error) {
	var none lockgate.Identity
	answer = bytes.TrimSpace(answer)
	if len(answer) > maxAnswer {
		return none, malformedPolicy("it has more than 8 KB; return less context")
	}
	var parsed struct {
		PrincipalID    *string        `json:"principalId"`
		PolicyDocument policy         `json:"policyDocument"`
		Context        map[string]any `json:"context"`
		// A stage's api_key may look for it among the values.
		UsageIdentifierKey string `json:"usageIdentifierKey"`
	}
	if len(answer) == 0 {
		return none, malformedPolicy("it is empty; return principalId and policyDocument")
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return none, malformedPolicy("%w", err)
	}
	switch {
	case parsed.PrincipalID == nil || *parsed.PrincipalID == "":
		return none, malformedPolicy("it has no principalId, which has to name the client")
	case parsed.PolicyDocument.Statement == nil:
		return none, malformedPolicy("it has no policyDocument with a Statement")
	}
	for name, value := range parsed.Context {
		switch value.(type) {
		case string, float64, bool:
		default:
			return none, malformedPolicy("the context value %q is no string, number or bool; context is flat", name)
		}
	}
	if !parsed.PolicyDocument.allows(arn) {
		return none, lockgate.Refuse(403, "")
	}
	values := parsed.Context
	if key := parsed.UsageIdentifierKey; key != "" {
		if values == nil {
			values = map[string]any{}
		}
		values["usageIdentifierKey"] = key
	}
	return lockgate.Identity{Principal: *parsed.PrincipalID, Values: values}, nil
}

func malformedPolicy(what string, values ...any) error {
	return fmt.Errorf("malformed answer of the Lambda authorizer: "+what, values...)
}

// policy is an IAM policy, as far as it decides here.
type policy struct {
	Statement oneOrMany[statement]
}

type statement struct {
	Effect   string
	Action   oneOrMany[string]
	Resource oneOrMany[string]
}

// oneOrMany is an element of a policy that may stand without a list around it.
type oneOrMany[T any] []T

func (all *oneOrMany[T]) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]T)(all))
	}
	if string(data) == "null" {
		return errors.New("an element of the policy is null")
	}
	*all = make([]T, 1)
	return json.Unmarshal(data, &(*all)[0])
}

// allows tells whether a statement allows the handshake and none denies it.
func (p policy) allows(arn string) bool {
	allowed := false
	for _, statement := range p.Statement {
		if !statement.fits(arn) {
			continue
		}
		switch statement.Effect {
		case "Deny":
			return false
		case "Allow":
			allowed = true
		}
	}
	return allowed
}

func (s statement) fits(arn string) bool {
	invokes, means := false, false
	for _, action := range s.Action {
		invokes = invokes || glob(strings.ToLower(action), "execute-api:invoke")
	}
	for _, resource := range s.Resource {
		means = means || glob(anywhere(resource, arn), arn)
	}
	return invokes && means
}

// anywhere returns the pattern of an ARN with region and account of ours: a gateway has neither, and policies that were written for
// AWS name its own.
func anywhere(pattern, arn string) string {
	parts, ours := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return pattern
	}
	return strings.Join([]string{"arn", parts[1], parts[2], ours[3], ours[4], parts[5]}, ":")
}

// glob tells whether a pattern fits a text: * stands for any run of bytes and ? for one. In linear time for one star, and never
// worse than the product of both lengths.
func glob(pattern, text string) bool {
	at, star, mark := 0, -1, 0
	for place := 0; place < len(text); {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, mark = at, place
			at++
		case at < len(pattern) && (pattern[at] == '?' || pattern[at] == text[place]):
			at++
			place++
		case star >= 0:
			mark++
			at, place = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[at:], "*") == ""
}
