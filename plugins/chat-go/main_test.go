package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

// object is a message of the chat as a test reads it.
type object = map[string]any

// table has the chat, and reads and writes JSON.
type table struct {
	*testing.T
	*lockgatetest.Gateway
}

// two returns a chat with ada and bob, after their welcomes.
func two(t *testing.T) (room table, ada, bob string) {
	t.Helper()
	room = table{t, lockgatetest.New(t, chat{})}
	return room, room.enter("ada"), room.enter("bob")
}

func (t table) enter(name string) string {
	t.Helper()
	request := lockgatetest.Handshake()
	request.Query = lockgate.Fields{{Name: "name", Value: name}}
	id, err := t.ConnectWith(request)
	if err != nil {
		t.Fatal(err)
	}
	t.expect(t.heard(id), []object{{"event": "welcome", "id": id, "name": name}})
	return id
}

// heard returns the events of a client since the last call.
func (t table) heard(id string) []object {
	t.Helper()
	var events []object
	for _, message := range t.Received(id) {
		events = append(events, t.read(&message))
	}
	return events
}

func (t table) read(message *lockgate.Message) object {
	t.Helper()
	var event object
	if err := json.Unmarshal(message.Data, &event); err != nil {
		t.Fatal(err)
	}
	return event
}

// ask returns the answer to an action of a client.
func (t table) ask(id string, action object) object {
	t.Helper()
	body, err := lockgate.JSON(action)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := t.Gateway.Message(id, body)
	if err != nil {
		t.Fatal(err)
	}
	return t.read(answer)
}

func (t table) expect(got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestInvalidNameMakesAGuest(t *testing.T) {
	gateway := lockgatetest.New(t, chat{})
	request := lockgatetest.Handshake()
	request.Query = lockgate.Fields{{Name: "name", Value: "\n"}}
	id, err := gateway.ConnectWith(request)
	if err != nil {
		t.Fatal(err)
	}
	welcome := table{t, gateway}.heard(id)[0]
	if name := welcome["name"].(string); !strings.HasPrefix(name, "guest-") {
		t.Fatal(name)
	}
}

func TestTextSaidInARoomReachesItsMembers(t *testing.T) {
	chat, ada, bob := two(t)
	join := object{"action": "join", "room": "lobby"}
	say := object{"action": "say", "room": "lobby", "text": "hi"}
	chat.expect(chat.ask(ada, join)["count"], 1.0)
	chat.expect(chat.ask(bob, say)["event"], "error")

	there := chat.ask(bob, join)
	chat.expect(there["count"], 2.0)
	chat.expect(there["members"].([]any)[1], object{"id": bob, "name": "bob"})
	chat.heard(ada)

	said := chat.ask(bob, say)
	chat.expect([]any{said["event"], said["name"]}, []any{"said", "bob"})
	chat.expect(chat.heard(ada), []object{said})
}

func TestWhisperReachesOneMemberOrItsSenderGetsTheError(t *testing.T) {
	chat, ada, bob := two(t)
	whisper := object{"action": "whisper", "to": bob, "text": "psst"}
	whispered := chat.ask(ada, whisper)
	chat.expect(whispered["event"], "whispered")
	chat.expect(chat.heard(bob), []object{whispered})

	for err, told := range map[error]string{
		lockgate.ErrGone:     "That person is not here any more.",
		lockgate.ErrBusy:     "That person reads too slowly just now. Try again.",
		lockgate.ErrTooLarge: "That is too long.",
	} {
		chat.Fail(bob, err)
		chat.expect(chat.ask(ada, whisper), object{"event": "error", "text": told})
	}
}

func TestRoomIsToldWhoLeft(t *testing.T) {
	chat, ada, bob := two(t)
	for _, id := range []string{ada, bob} {
		chat.ask(id, object{"action": "join", "room": "lobby"})
	}
	chat.heard(ada)
	chat.Disconnect(bob)
	chat.expect(chat.heard(ada), []object{{"event": "left", "room": "lobby", "id": bob, "name": "bob"}})
	chat.expect(chat.Members("lobby"), []string{ada})
}

func TestMemberTakesAnotherName(t *testing.T) {
	chat, ada, bob := two(t)
	for _, id := range []string{ada, bob} {
		chat.ask(id, object{"action": "join", "room": "lobby"})
	}
	chat.heard(ada)
	renamed := chat.ask(bob, object{"action": "name", "name": " eve "})
	chat.expect(renamed, object{"event": "renamed", "id": bob, "name": "eve"})
	chat.expect(chat.heard(ada), []object{renamed})
	left := chat.ask(bob, object{"action": "leave", "room": "lobby"})
	chat.expect(left["name"], "eve")
}
