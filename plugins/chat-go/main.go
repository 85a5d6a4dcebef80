// Chat is a chat: names, rooms with presence, and private messages.
//
// A client sends JSON texts with an action, and gets JSON texts with an event; protocol.go lists both. A room is a group, a
// name is an attribute of the connection, and nothing is kept in memory, so any instance can handle any message.
package main

import (
	"context"
	"errors"
	"log/slog"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
)

func main() { lockgate.Handle(chat{}) }

type chat struct{}

// listedMembers is the number of members that a client gets by name. They must fit in one message.
const listedMembers = 200

// Connect lets every client in, under the name in the query string (?name=ada) if it is valid.
func (chat) Connect(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (lockgate.Acceptance, error) {
	member := newMember(event.ConnectionID)
	if written, ok := handshake.QueryParameter("name"); ok {
		if name, err := checkName(written); err == nil {
			if err := member.rename(ctx, name); err != nil {
				return lockgate.Acceptance{}, err
			}
		}
	}
	welcome, err := lockgate.JSON(reply{Event: "welcome", ID: member.ID, Name: member.Name})
	if err != nil {
		return lockgate.Acceptance{}, err
	}
	return lockgate.Acceptance{}, connections.Send(ctx, member.ID, welcome)
}

func (chat) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	answer, err := handle(ctx, event.ConnectionID, message)
	// A complaint is the client's mistake, and its answer; any other error is a failure of the chat.
	var complaint complaint
	if errors.As(err, &complaint) {
		return lockgate.JSON(reply{Event: "error", Text: string(complaint)})
	}
	if err != nil {
		return nil, err
	}
	return lockgate.JSON(answer)
}

func handle(ctx context.Context, id lockgate.ConnectionID, message lockgate.Message) (any, error) {
	if message.Binary {
		return nil, complaint("Send JSON as a text message.")
	}
	action, err := parse(message.Data)
	if err != nil {
		return nil, err
	}
	member, err := loadMember(ctx, id)
	if err != nil {
		return nil, err
	}
	switch action.Action {
	case "name":
		return rename(ctx, member, action.Name)
	case "join":
		return join(ctx, member, action.Room)
	case "leave":
		return leave(ctx, member, action.Room)
	case "say":
		return say(ctx, member, action.Room, action.Text)
	case "whisper":
		return whisper(ctx, member, action.To, action.Text)
	default:
		return who(ctx, action.Room)
	}
}

// Disconnect tells each room that the member left. The connection has left its groups by now.
func (chat) Disconnect(ctx context.Context, event lockgate.Event, _ lockgate.Closing) {
	member, err := loadMember(ctx, event.ConnectionID)
	if err != nil {
		slog.Warn("no room was told", "error", err)
		return
	}
	for _, room := range member.rooms {
		if err := publish(ctx, room, member.left(room), ""); err != nil {
			slog.Warn("a room was not told", "room", room, "error", err)
		}
	}
}

// rename renames the member, and tells its rooms.
func rename(ctx context.Context, member *member, name string) (any, error) {
	if err := member.rename(ctx, name); err != nil {
		return nil, err
	}
	renamed := reply{Event: "renamed", ID: member.ID, Name: member.Name}
	for _, room := range member.rooms {
		if err := publish(ctx, room, renamed, member.ID); err != nil {
			return nil, err
		}
	}
	return renamed, nil
}

// join tells the room, and answers with its members. A second join only answers.
func join(ctx context.Context, member *member, room string) (any, error) {
	if !member.isIn(room) {
		if len(member.rooms) >= maxRooms {
			return nil, complaint("You are in too many rooms. Leave one first.")
		}
		if err := member.enter(ctx, room); err != nil {
			return nil, err
		}
		joined := reply{Event: "joined", Room: room, ID: member.ID, Name: member.Name}
		if err := publish(ctx, room, joined, ""); err != nil {
			return nil, err
		}
	}
	return who(ctx, room)
}

func leave(ctx context.Context, member *member, room string) (any, error) {
	if !member.isIn(room) {
		return nil, complaint("You are not in that room.")
	}
	if err := member.exit(ctx, room); err != nil {
		return nil, err
	}
	left := member.left(room)
	return left, publish(ctx, room, left, "")
}

func say(ctx context.Context, member *member, room, text string) (any, error) {
	if !member.isIn(room) {
		return nil, complaint("Join the room before you speak in it.")
	}
	said := reply{
		Event: "said", Room: room, ID: member.ID, Name: member.Name, Text: text,
		At: lockgate.Current(ctx).RequestedAt.UnixMilli(),
	}
	return said, notSent(publish(ctx, room, said, member.ID))
}

func whisper(ctx context.Context, member *member, to, text string) (any, error) {
	if to == member.ID {
		return nil, complaint("That is you.")
	}
	whispered := reply{
		Event: "whispered", ID: member.ID, Name: member.Name, To: to, Text: text,
		At: lockgate.Current(ctx).RequestedAt.UnixMilli(),
	}
	message, err := lockgate.JSON(whispered)
	if err != nil {
		return nil, err
	}
	return whispered, notSent(connections.Send(ctx, to, message))
}

func who(ctx context.Context, room string) (any, error) {
	ids, err := groups.Members(ctx, room, "", listedMembers)
	if err != nil {
		return nil, err
	}
	list := memberList{Event: "members", Room: room, Members: []*member{}}
	for _, id := range ids {
		switch member, err := loadMember(ctx, id); {
		case err == nil:
			list.Members = append(list.Members, member)
		case !errors.Is(err, lockgate.ErrGone): // a member that is gone has left meanwhile
			return nil, err
		}
	}
	list.Count, err = groups.Count(ctx, room)
	return list, err
}

// publish tells a room, and leaves out one member if one is named.
func publish(ctx context.Context, room string, said reply, exclude string) error {
	message, err := lockgate.JSON(said)
	if err != nil {
		return err
	}
	if exclude == "" {
		_, err = groups.Publish(ctx, room, message)
	} else {
		_, err = groups.PublishExcept(ctx, room, message, exclude)
	}
	return err
}

// notSent makes an error that its sender can do something about a complaint.
func notSent(err error) error {
	switch {
	case errors.Is(err, lockgate.ErrGone):
		return complaint("That person is not here any more.")
	case errors.Is(err, lockgate.ErrBusy):
		return complaint("That person reads too slowly just now. Try again.")
	case errors.Is(err, lockgate.ErrTooLarge):
		return complaint("That is too long.")
	default:
		return err
	}
}
