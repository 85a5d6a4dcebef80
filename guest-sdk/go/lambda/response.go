package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
)

// response is the proxy response of a Lambda handler. No other key may be in it.
type response struct {
	StatusCode        *int                `json:"statusCode"`
	Headers           map[string]string   `json:"headers"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
	Body              *string             `json:"body"`
	IsBase64Encoded   bool                `json:"isBase64Encoded"`
}

// parseResponse parses what a handler returned; nil is nothing at all.
func parseResponse(answer []byte) (*response, error) {
	if answer = bytes.TrimSpace(answer); len(answer) == 0 || string(answer) == "null" {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.DisallowUnknownFields()
	var parsed response
	if err := decoder.Decode(&parsed); err != nil {
		return nil, malformed("%w; it has statusCode, headers, multiValueHeaders, body and isBase64Encoded", err)
	}
	return &parsed, nil
}

func malformed(what string, values ...any) error {
	return fmt.Errorf("malformed Lambda proxy response: "+what, values...)
}

// acceptance returns the answer to $connect. A status that is not 2xx refuses the client.
func (r *response) acceptance() (lockgate.Acceptance, error) {
	var acceptance lockgate.Acceptance
	if r == nil {
		return acceptance, malformed("the handler answered with nothing; return the status 200 to let the client in")
	}
	status := 200
	// Go has 0 for a status that was not set.
	if r.StatusCode != nil && *r.StatusCode != 0 {
		status = *r.StatusCode
	}
	switch {
	case status < 200 || status > 599:
		return acceptance, malformed("the status %d; 2xx lets the client in, 300 to 599 refuses it", status)
	case status > 299:
		return acceptance, lockgate.Refuse(status, r.message())
	}
	for _, header := range r.headers() {
		switch {
		case header.Name == "sec-websocket-protocol":
			acceptance.Subprotocol = header.Value
		case !isGateways(header.Name):
			acceptance.Headers = append(acceptance.Headers, header)
		}
	}
	return acceptance, nil
}

// message returns the text of a refusal: the gateway wraps it as {"message": …}, which many handlers have done already.
func (r *response) message() string {
	if r.Body == nil {
		return ""
	}
	var wrapped struct{ Message *string }
	if json.Unmarshal([]byte(*r.Body), &wrapped) == nil && wrapped.Message != nil {
		return *wrapped.Message
	}
	return *r.Body
}

// headers returns the headers with names in lower case. A name with several values is in multiValueHeaders, which counts.
func (r *response) headers() lockgate.Fields {
	var headers lockgate.Fields
	several := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(r.MultiValueHeaders)) {
		several[strings.ToLower(name)] = true
		for _, value := range r.MultiValueHeaders[name] {
			headers = append(headers, lockgate.Field{Name: strings.ToLower(name), Value: value})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if !several[strings.ToLower(name)] {
			headers = append(headers, lockgate.Field{Name: strings.ToLower(name), Value: r.Headers[name]})
		}
	}
	return headers
}

// isGateways tells whether a header of the 101 is the gateway's own. A Lambda that sets such for every answer is let in all
// the same.
func isGateways(name string) bool {
	ours := []string{"connection", "upgrade", "content-length", "transfer-encoding"}
	return slices.Contains(ours, name) || strings.HasPrefix(name, "sec-websocket-")
}

// reply returns the message for the client of a two-way route, whatever the status: none without a body, and an empty text for an
// empty one, as the struct of aws-lambda-go has it.
func (r *response) reply() (*lockgate.Message, error) {
	if r == nil || r.Body == nil {
		return nil, nil
	}
	if !r.IsBase64Encoded {
		return lockgate.Text(*r.Body), nil
	}
	data, err := base64.StdEncoding.DecodeString(*r.Body)
	if err != nil {
		return nil, malformed("%w", errors.Join(errors.New("the body is not base64, and isBase64Encoded is true"), err))
	}
	return lockgate.Binary(data), nil
}

func logFailure(err error) { slog.Error("the handler failed", "error", err) }
