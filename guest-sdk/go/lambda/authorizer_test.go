package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

const arn = "arn:aws:execute-api:us-east-1:000000000000:api/stage/$connect"

func policy(effect string, resource any) object {
	return object{"Version": "2012-10-17", "Statement": []object{
		{"Action": []string{"execute-api:Invoke"}, "Effect": effect, "Resource": resource},
	}}
}

// decided returns the identity, or the status that refuses.
func decided(t *testing.T, r *recorder) (lockgate.Identity, int) {
	t.Helper()
	gateway := lockgatetest.New(t, lockgate.Defaults{})
	gateway.SetVariable("colour", "blue")
	request := lockgatetest.Handshake()
	request.Query = lockgate.Fields{{Name: "token", Value: "t"}}
	request.Headers = append(request.Headers, lockgate.Field{Name: "authorization", Value: "Bearer t"})
	identity, err := gateway.Authorize(lambda.NewAuthorizer(r.handle), request)
	var refusal *lockgate.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if refusal != nil {
		return identity, refusal.Status
	}
	return identity, 0
}

func TestAuthorizerGetsTheRequestAsAPIGatewayTellsIt(t *testing.T) {
	r := &recorder{answer: object{"principalId": "ada", "policyDocument": policy("Allow", "*"), "context": object{"plan": "gold", "age": 36, "staff": true}}}
	identity, _ := decided(t, r)
	expect(t, identity, lockgate.Identity{Principal: "ada", Values: object{"plan": "gold", "age": 36.0, "staff": true}})
	event := r.last()
	expect(t, []any{event["type"], event["methodArn"]}, []any{"REQUEST", arn})
	expect(t, event["headers"].(object)["Authorization"], "Bearer t")
	expect(t, event["queryStringParameters"], object{"token": "t"})
	expect(t, event["stageVariables"], object{"colour": "blue"})
	about := event["requestContext"].(object)
	expect(t, []any{about["routeKey"], about["stage"], about["identity"]}, []any{"$connect", "stage", object{"sourceIp": "203.0.113.7", "userAgent": "test"}})
	_, known := about["authorizer"]
	expect(t, known, false)
}

func TestUsageIdentifierKeyIsAValueForTheStagesAPIKey(t *testing.T) {
	r := &recorder{answer: object{"principalId": "ada", "policyDocument": policy("Allow", "*"), "usageIdentifierKey": "prefix.secret"}}
	identity, _ := decided(t, r)
	expect(t, identity.Values, object{"usageIdentifierKey": "prefix.secret"})
}

func TestPolicyIsEvaluatedForTheStagesConnect(t *testing.T) {
	both := policy("Allow", "*")
	both["Statement"] = append(both["Statement"].([]object), policy("Deny", arn)["Statement"].([]object)...)
	for _, row := range []struct {
		policy any
		status int
	}{
		{policy("Allow", arn), 0},
		{policy("Allow", "arn:aws:execute-api:eu-west-1:123456789012:api/*/$connect"), 0},
		{policy("Allow", "arn:*:execute-api:::api/stage/$conn?ct"), 0},
		{policy("Allow", []string{"arn:aws:s3:::x", "*"}), 0},
		{object{"Statement": object{"Action": "Execute-API:*", "Effect": "Allow", "Resource": "*"}}, 0},
		{policy("Allow", "arn:aws:execute-api:us-east-1:1:other/stage/*"), 403},
		{policy("Allow", "arn:aws:s3:::api/stage/$connect"), 403},
		{policy("Allow", ""), 500},
		{policy("Allow", []string{}), 403},
		{policy("Deny", "*"), 403},
		{object{"Statement": object{"Action": "s3:Get", "Effect": "Allow", "Resource": "*"}}, 403},
		{object{"Statement": []object{}}, 403},
		{both, 403},
		{object{"Statement": nil}, 500},
		{object{}, 500},
		{policy("Allow", 7), 500},
	} {
		_, status := decided(t, &recorder{answer: object{"principalId": "ada", "policyDocument": row.policy}})
		if status != row.status {
			t.Errorf("%v: %d", row.policy, status)
		}
	}
}

// The cases are those of the SDK for JavaScript, too: the client 203.0.113.7, over TLS, on 14 November 2023 at 22:13:20 UTC.
func TestPolicyIsEvaluatedAsInJavaScript(t *testing.T) {
	file, err := os.ReadFile("../../tests/policies.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Case     string
		Status   int
		SourceIP *string
		Policy   any
	}
	if err := json.Unmarshal(file, &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		t.Run(row.Case, func(t *testing.T) {
			request := lockgatetest.Handshake()
			if row.SourceIP != nil {
				request.SourceIP = *row.SourceIP
			}
			r := &recorder{answer: object{"principalId": "ada", "policyDocument": row.Policy}}
			_, err := lockgatetest.New(t, lockgate.Defaults{}).Authorize(lambda.NewAuthorizer(r.handle), request)
			status := 0
			var refusal *lockgate.Refusal
			if errors.As(err, &refusal) {
				status = refusal.Status
			}
			expect(t, status, row.Status)
		})
	}
}

func TestErrorOfAnAuthorizerRefuses(t *testing.T) {
	for text, status := range map[string]int{"Unauthorized": 401, "unauthorized, or so": 500} {
		_, got := decided(t, &recorder{answer: errors.New(text)})
		expect(t, got, status)
	}
	allowed := policy("Allow", "*")
	for _, answer := range []any{
		nil, "ada", []int{}, object{}, object{"policyDocument": allowed}, object{"principalid": "ada", "policyDocument": allowed},
		object{"principalId": "ada", "POLICYDOCUMENT": allowed}, object{"principalId": "", "policyDocument": allowed}, object{"principalId": 7, "policyDocument": allowed},
		object{"principalId": "ada"}, object{"isAuthorized": true}, object{"principalId": "ada", "policyDocument": allowed, "context": []string{"b"}},
		object{"principalId": "ada", "policyDocument": allowed, "usageIdentifierKey": 7},
		object{"principalId": "ada", "policyDocument": allowed, "context": object{"nested": object{}}},
		object{"principalId": "ada", "policyDocument": allowed, "context": object{"long": strings.Repeat("x", 9_000)}},
	} {
		if _, status := decided(t, &recorder{answer: answer}); status != 500 {
			t.Errorf("%v: %d", answer, status)
		}
	}
}

func TestWhatIsNoAuthorizerPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a number is taken")
		}
	}()
	lambda.NewAuthorizer(func(context.Context, int, int) {})
}
