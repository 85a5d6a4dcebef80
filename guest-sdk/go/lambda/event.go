package lambda

import (
	"context"
	"encoding/base64"
	"strings"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
)

// proxyEvent is the event of a WebSocket API, with the fields that captures of API Gateway show.
type proxyEvent struct {
	Headers                         map[string]string   `json:"headers,omitempty"`
	MultiValueHeaders               map[string][]string `json:"multiValueHeaders,omitempty"`
	QueryStringParameters           map[string]string   `json:"queryStringParameters,omitempty"`
	MultiValueQueryStringParameters map[string][]string `json:"multiValueQueryStringParameters,omitempty"`
	StageVariables                  map[string]string   `json:"stageVariables,omitempty"`
	RequestContext                  requestContext      `json:"requestContext"`
	Body                            *string             `json:"body,omitempty"`
	IsBase64Encoded                 bool                `json:"isBase64Encoded"`
}

type requestContext struct {
	RouteKey             string         `json:"routeKey"`
	DisconnectStatusCode uint16         `json:"disconnectStatusCode,omitempty"`
	DisconnectReason     *string        `json:"disconnectReason,omitempty"`
	Authorizer           map[string]any `json:"authorizer,omitempty"`
	MessageID            string         `json:"messageId,omitempty"`
	EventType            string         `json:"eventType"`
	ExtendedRequestID    string         `json:"extendedRequestId"`
	RequestTime          string         `json:"requestTime"`
	MessageDirection     string         `json:"messageDirection"`
	Stage                string         `json:"stage"`
	ConnectedAt          int64          `json:"connectedAt"`
	RequestTimeEpoch     int64          `json:"requestTimeEpoch"`
	Identity             identity       `json:"identity"`
	RequestID            string         `json:"requestId"`
	DomainName           string         `json:"domainName"`
	ConnectionID         string         `json:"connectionId"`
	APIID                string         `json:"apiId"`
}

type identity struct {
	UserAgent string `json:"userAgent,omitempty"`
	SourceIP  string `json:"sourceIp"`
}

// commonLogTime is the layout of requestTime: 29/Nov/2023:08:04:03 +0000.
const commonLogTime = "02/Jan/2006:15:04:05 -0700"

func connectEvent(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (proxyEvent, error) {
	proxy, err := newEvent(ctx, event, "CONNECT")
	proxy.Headers, proxy.MultiValueHeaders = grouped(headersOf(handshake))
	proxy.QueryStringParameters, proxy.MultiValueQueryStringParameters = grouped(handshake.Query)
	return proxy, err
}

func messageEvent(ctx context.Context, event lockgate.Event, message lockgate.Message) (proxyEvent, error) {
	proxy, err := newEvent(ctx, event, "MESSAGE")
	body := string(message.Data)
	if message.Binary {
		body = base64.StdEncoding.EncodeToString(message.Data)
	}
	proxy.Body, proxy.IsBase64Encoded = &body, message.Binary
	return proxy, err
}

func disconnectEvent(ctx context.Context, event lockgate.Event, closing lockgate.Closing) (proxyEvent, error) {
	proxy, err := newEvent(ctx, event, "DISCONNECT")
	proxy.Headers, proxy.MultiValueHeaders = grouped(lockgate.Fields{
		{Name: "Host", Value: proxy.RequestContext.DomainName},
		{Name: "x-api-key"}, {Name: "X-Forwarded-For"}, {Name: "x-restapi"},
	})
	proxy.RequestContext.DisconnectStatusCode = closing.Code
	proxy.RequestContext.DisconnectReason = &closing.Reason
	return proxy, err
}

func newEvent(ctx context.Context, event lockgate.Event, kind string) (proxyEvent, error) {
	info, err := connections.Info(ctx, event.ConnectionID)
	current := lockgate.Current(ctx)
	authorizer := lockgate.Authorizer(ctx)
	if principal := lockgate.Principal(ctx); principal != "" {
		if authorizer == nil {
			authorizer = map[string]any{}
		}
		authorizer["principalId"] = principal
	}
	variables, _ := grouped(lockgate.Variables(ctx))
	return proxyEvent{
		StageVariables: variables,
		RequestContext: requestContext{
			RouteKey:          event.RouteKey,
			Authorizer:        authorizer,
			MessageID:         current.MessageID,
			EventType:         kind,
			ExtendedRequestID: current.RequestID,
			RequestTime:       current.RequestedAt.UTC().Format(commonLogTime),
			MessageDirection:  "IN",
			Stage:             current.Stage,
			ConnectedAt:       info.ConnectedAt.UnixMilli(),
			RequestTimeEpoch:  current.RequestedAt.UnixMilli(),
			Identity:          identity{UserAgent: info.UserAgent, SourceIP: info.SourceIP},
			RequestID:         current.RequestID,
			DomainName:        info.DomainName,
			ConnectionID:      event.ConnectionID,
			APIID:             current.API,
		},
	}, err
}

// headersOf returns the headers as API Gateway passes them on: those that it adds are the gateway's, whatever a client wrote.
func headersOf(handshake lockgate.Handshake) lockgate.Fields {
	var headers lockgate.Fields
	offered := false
	for _, header := range handshake.Headers {
		if strings.HasPrefix(header.Name, "x-forwarded-") {
			continue
		}
		offered = offered || header.Name == "sec-websocket-protocol"
		headers = append(headers, lockgate.Field{Name: spelling(header.Name), Value: header.Value})
	}
	if len(handshake.Subprotocols) > 0 && !offered {
		headers = append(headers, lockgate.Field{
			Name: "Sec-WebSocket-Protocol", Value: strings.Join(handshake.Subprotocols, ", "),
		})
	}
	scheme, port := "http", "80"
	if handshake.Secure {
		scheme, port = "https", "443"
	}
	if host, _ := handshake.Header("host"); strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		port = host[strings.LastIndexByte(host, ':')+1:]
	}
	return append(headers,
		lockgate.Field{Name: "X-Forwarded-For", Value: handshake.SourceIP},
		lockgate.Field{Name: "X-Forwarded-Port", Value: port},
		lockgate.Field{Name: "X-Forwarded-Proto", Value: scheme},
	)
}

// spelling writes a header's name as browsers do: the contract has it in lower case, and Lambda code reads Authorization.
func spelling(name string) string {
	switch name {
	case "dnt", "te":
		return strings.ToUpper(name)
	}
	words := strings.Split(name, "-")
	for i, word := range words {
		if word != "" {
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	name = strings.Join(words, "-")
	if rest, ok := strings.CutPrefix(name, "Sec-Websocket-"); ok {
		return "Sec-WebSocket-" + rest
	}
	return name
}

// grouped returns the last value of each name, and every value of each; nil for none.
func grouped(fields lockgate.Fields) (last map[string]string, every map[string][]string) {
	if len(fields) == 0 {
		return nil, nil
	}
	last, every = map[string]string{}, map[string][]string{}
	for _, field := range fields {
		last[field.Name] = field.Value
		every[field.Name] = append(every[field.Name], field.Value)
	}
	return last, every
}
