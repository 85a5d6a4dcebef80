// Package connectionsapi answers the requests of API Gateway's management API, @connections, by the gateway: a handler that
// sends with the AWS SDK gives it this client, whatever endpoint it names.
//
//	configuration, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(connectionsapi.Client()))
//
// Each request needs the handler's context. The plugin needs the grant connections.
package connectionsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
)

// Client returns the client. It reaches nothing but the connections of the stage.
func Client() *http.Client { return &http.Client{Transport: transport{}} }

type transport struct{}

func (transport) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		var err error
		body, err = io.ReadAll(request.Body)
		_ = request.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	_, escaped, ok := strings.Cut(strings.ReplaceAll(request.URL.EscapedPath(), "%40", "@"), "/@connections/")
	id, err := url.PathUnescape(escaped)
	if !ok || err != nil {
		return nil, fmt.Errorf("%s: a plugin has no network; this client takes requests for /@connections/ID only", request.URL)
	}
	answer, status, err := handle(request.Context(), request.Method, id, body)
	header := http.Header{"Content-Type": {"application/json"}}
	if err != nil {
		var kind string
		if status, kind = failure(err); status == 0 {
			return nil, err
		}
		header.Set("X-Amzn-ErrorType", kind)
		answer, _ = json.Marshal(map[string]string{"message": err.Error()})
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(strings.NewReader(string(answer))),
		ContentLength: int64(len(answer)),
		Request:       request,
	}, nil
}

// iso8601 is the layout of times in JSON.
const iso8601 = "2006-01-02T15:04:05.000Z"

func handle(ctx context.Context, method, id string, body []byte) (answer []byte, status int, err error) {
	switch method {
	case http.MethodPost:
		// API Gateway sends texts only.
		message := &lockgate.Message{Data: body, Binary: !utf8.Valid(body)}
		return nil, http.StatusOK, connections.Send(ctx, id, message)
	case http.MethodDelete:
		return nil, http.StatusNoContent, connections.Close(ctx, id, 1000, "")
	case http.MethodGet:
		info, err := connections.Info(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		identity := map[string]string{"sourceIp": info.SourceIP}
		if info.UserAgent != "" {
			identity["userAgent"] = info.UserAgent
		}
		answer, err = json.Marshal(map[string]any{
			"connectedAt":  text(info.ConnectedAt),
			"identity":     identity,
			"lastActiveAt": text(info.LastActiveAt),
		})
		return answer, http.StatusOK, err
	default:
		return nil, 0, fmt.Errorf("the method %s is none of the management API: GET, POST, DELETE", method)
	}
}

func text(at time.Time) string { return at.UTC().Format(iso8601) }

// failure returns the status and the name of an error of the gateway; 0 for another error.
func failure(err error) (status int, kind string) {
	switch {
	case errors.Is(err, lockgate.ErrGone):
		return http.StatusGone, "GoneException"
	case errors.Is(err, lockgate.ErrBusy), errors.Is(err, lockgate.ErrUnreachable):
		return http.StatusTooManyRequests, "LimitExceededException"
	case errors.Is(err, lockgate.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "PayloadTooLargeException"
	case errors.Is(err, lockgate.ErrDenied):
		return http.StatusForbidden, "ForbiddenException"
	case errors.Is(err, lockgate.ErrInvalid):
		return http.StatusBadRequest, "BadRequestException"
	default:
		return 0, ""
	}
}
