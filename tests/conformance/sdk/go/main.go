// Conformance does what its client says: the plugin that README.md specifies, beside this folder.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
)

func main() { lockgate.Handle(conformance{}) }

type conformance struct{}

func (conformance) Connect(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (lockgate.Acceptance, error) {
	var acceptance lockgate.Acceptance
	id := event.ConnectionID
	if reason, ok := handshake.QueryParameter("fail"); ok {
		return acceptance, errors.New(reason)
	}
	if status, ok := handshake.QueryParameter("refuse"); ok {
		number, err := strconv.Atoi(status)
		if err != nil {
			return acceptance, err
		}
		message, _ := handshake.QueryParameter("message")
		return acceptance, lockgate.Refuse(number, message)
	}
	if group, ok := handshake.QueryParameter("join"); ok {
		if err := groups.Join(ctx, group, id); err != nil {
			return acceptance, err
		}
	}
	if name, ok := handshake.QueryParameter("name"); ok {
		if err := connections.SetAttribute(ctx, id, "name", name); err != nil {
			return acceptance, err
		}
	}
	if _, ok := handshake.QueryParameter("tell"); ok {
		seen, err := lockgate.JSON(map[string]any{
			"query":              pairs(handshake.Query),
			"headers":            pairs(handshake.Headers),
			"subprotocols":       append([]string{}, handshake.Subprotocols...),
			"sourceIp":           handshake.SourceIP,
			"domainName":         handshake.DomainName,
			"path":               handshake.Path,
			"httpVersion":        handshake.HTTPVersion,
			"secure":             handshake.Secure,
			"certificateSubject": orNull(handshake.CertificateSubject),
			"route":              event.RouteKey,
		})
		if err != nil {
			return acceptance, err
		}
		if err := connections.Send(ctx, id, seen); err != nil {
			return acceptance, err
		}
	}
	acceptance.Subprotocol, _ = handshake.QueryParameter("subprotocol")
	for _, field := range handshake.Query {
		if field.Name == "header" {
			acceptance.Headers = append(acceptance.Headers, lockgate.Field{Name: "x-conformance", Value: field.Value})
		}
	}
	return acceptance, nil
}

// step is what a message says; a pointer is nil where the client gives nothing.
type step struct {
	Do, Text, Reason, Name, Value, Group string
	ID, Exclude, After                   *string
	Bytes                                []int
	Times, Limit, Ms                     int
	Code                                 uint16
}

func (conformance) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	if message.Binary {
		return &message, nil
	}
	var step step
	if err := json.Unmarshal(message.Data, &step); err != nil {
		return nil, err
	}
	switch step.Do {
	case "reply":
		return lockgate.Text(step.Text), nil
	case "silence":
		return nil, nil
	case "fail":
		return nil, errors.New(step.Reason)
	}
	result, err := act(ctx, event, step)
	if err == nil {
		return lockgate.JSON(map[string]any{"ok": result})
	}
	name := nameOf(err)
	if name == "" {
		return nil, err
	}
	return lockgate.JSON(map[string]any{"error": name})
}

func (conformance) Disconnect(ctx context.Context, event lockgate.Event, closing lockgate.Closing) {
	name, set, err := connections.Attribute(ctx, event.ConnectionID, "name")
	if err != nil {
		panic(err)
	}
	closed := map[string]any{
		"closed": event.ConnectionID, "code": closing.Code, "reason": closing.Reason, "route": event.RouteKey, "name": nil,
	}
	if set {
		closed["name"] = name
	}
	told, err := lockgate.JSON(closed)
	if err != nil {
		panic(err)
	}
	if _, err := groups.Publish(ctx, "observers", told); err != nil {
		panic(err)
	}
	if name == "crash" {
		panic("a mistake")
	}
}

func bytesOf(step step) []byte {
	data := []byte{}
	for _, number := range step.Bytes {
		data = append(data, byte(number))
	}
	return data
}

func act(ctx context.Context, event lockgate.Event, step step) (any, error) {
	id := event.ConnectionID
	if step.ID != nil {
		id = *step.ID
	}
	switch step.Do {
	case "event":
		return map[string]any{"connection": event.ConnectionID, "route": event.RouteKey}, nil
	case "send":
		return nil, connections.Send(ctx, id, lockgate.Text(step.Text))
	case "send bytes":
		data := bytesOf(step)
		return nil, connections.Send(ctx, id, lockgate.Binary(data))
	case "send datagram":
		return nil, connections.SendDatagram(ctx, id, bytesOf(step))
	case "is datagram":
		return lockgate.IsDatagram(ctx), nil
	case "send many":
		for sent := range step.Times {
			if err := connections.Send(ctx, id, lockgate.Text(strconv.Itoa(sent+1))); err != nil {
				return sent, nil
			}
		}
		return step.Times, nil
	case "close":
		return nil, connections.Close(ctx, id, step.Code, step.Reason)
	case "info":
		info, err := connections.Info(ctx, id)
		return map[string]any{
			"connectedAt": info.ConnectedAt.UnixMilli(), "lastActiveAt": info.LastActiveAt.UnixMilli(), "sourceIp": info.SourceIP,
			"userAgent": orNull(info.UserAgent), "domainName": info.DomainName, "subprotocol": orNull(info.Subprotocol),
		}, err
	case "attribute":
		value, set, err := connections.Attribute(ctx, id, step.Name)
		if !set {
			return nil, err
		}
		return value, err
	case "attributes":
		attributes, err := connections.Attributes(ctx, id)
		return object(attributes), err
	case "set":
		return nil, connections.SetAttribute(ctx, id, step.Name, step.Value)
	case "remove":
		return nil, connections.RemoveAttribute(ctx, id, step.Name)
	case "join":
		return nil, groups.Join(ctx, step.Group, id)
	case "leave":
		return nil, groups.Leave(ctx, step.Group, id)
	case "publish":
		if step.Exclude == nil {
			return groups.Publish(ctx, step.Group, lockgate.Text(step.Text))
		}
		return groups.PublishExcept(ctx, step.Group, lockgate.Text(step.Text), *step.Exclude)
	case "members":
		after := ""
		if step.After != nil {
			after = *step.After
		}
		members, err := groups.Members(ctx, step.Group, after, step.Limit)
		return append([]string{}, members...), err
	case "count":
		return groups.Count(ctx, step.Group)
	case "context":
		current := lockgate.Current(ctx)
		authorizer := map[string]any{}
		for name, value := range lockgate.Authorizer(ctx) {
			authorizer[name] = value
		}
		return map[string]any{
			"requestId": current.RequestID, "messageId": orNull(current.MessageID), "api": current.API, "stage": current.Stage,
			"requestedAt": current.RequestedAt.UnixMilli(), "principal": orNull(lockgate.Principal(ctx)), "authorizer": authorizer,
		}, nil
	case "variables":
		return object(lockgate.Variables(ctx)), nil
	case "environment":
		if value, ok := os.LookupEnv(step.Name); ok {
			return value, nil
		}
		return nil, nil
	case "clock":
		return time.Now().UnixMilli(), nil
	case "random":
		return random(ctx, id)
	case "print":
		fmt.Println(step.Text)
		return nil, nil
	case "wait":
		time.Sleep(time.Duration(step.Ms) * time.Millisecond)
		return nil, nil
	case "spin":
		for {
		}
	case "crash":
		panic("a mistake")
	}
	return nil, errors.New(step.Do + " is no step")
}

// random tells whether random numbers differ from those that the connection has had.
func random(ctx context.Context, id string) (any, error) {
	numbers := make([]byte, 16)
	if _, err := rand.Read(numbers); err != nil {
		return nil, err
	}
	text := hex.EncodeToString(numbers)
	before, _, err := connections.Attribute(ctx, id, "random")
	if err != nil {
		return nil, err
	}
	return before != text, connections.SetAttribute(ctx, id, "random", text)
}

func pairs(fields lockgate.Fields) [][]string {
	list := [][]string{}
	for _, field := range fields {
		list = append(list, []string{field.Name, field.Value})
	}
	return list
}

func object(fields lockgate.Fields) map[string]string {
	object := map[string]string{}
	for _, field := range fields {
		object[field.Name] = field.Value
	}
	return object
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// nameOf returns the contract's name of an error; empty for one that is not the gateway's.
func nameOf(err error) string {
	for name, known := range map[string]error{
		"gone": lockgate.ErrGone, "busy": lockgate.ErrBusy, "too-large": lockgate.ErrTooLarge, "denied": lockgate.ErrDenied,
		"unreachable": lockgate.ErrUnreachable, "invalid": lockgate.ErrInvalid,
	} {
		if errors.Is(err, known) {
			return name
		}
	}
	return ""
}
