package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
)

// maxRooms is far fewer than the limit of groups of a connection, and their names fit in its attributes.
const maxRooms = 16

// The attributes of a member's connection. The rooms are separated by spaces, and can be read after the connection's end.
const (
	nameAttribute  = "name"
	roomsAttribute = "rooms"
)

// A member of the chat. Its state lives in the attributes of its connection.
type member struct {
	ID    lockgate.ConnectionID `json:"id"`
	Name  string                `json:"name"`
	rooms []string
}

// newMember returns a member that is named guest and in no room.
func newMember(id lockgate.ConnectionID) *member {
	hash := fnv.New32a()
	hash.Write([]byte(id))
	return &member{ID: id, Name: fmt.Sprintf("guest-%04d", hash.Sum32()%10_000)}
}

func loadMember(ctx context.Context, id lockgate.ConnectionID) (*member, error) {
	attributes, err := connections.Attributes(ctx, id)
	if err != nil {
		return nil, err
	}
	member := newMember(id)
	if name, ok := attributes.Get(nameAttribute); ok {
		member.Name = name
	}
	rooms, _ := attributes.Get(roomsAttribute)
	member.rooms = strings.Fields(rooms)
	return member, nil
}

func (m *member) isIn(room string) bool { return slices.Contains(m.rooms, room) }

func (m *member) rename(ctx context.Context, name string) error {
	m.Name = name
	return connections.SetAttribute(ctx, m.ID, nameAttribute, name)
}

func (m *member) enter(ctx context.Context, room string) error {
	if err := groups.Join(ctx, room, m.ID); err != nil {
		return err
	}
	m.rooms = append(m.rooms, room)
	return m.storeRooms(ctx)
}

func (m *member) exit(ctx context.Context, room string) error {
	if err := groups.Leave(ctx, room, m.ID); err != nil {
		return err
	}
	m.rooms = slices.DeleteFunc(m.rooms, func(other string) bool { return other == room })
	return m.storeRooms(ctx)
}

func (m *member) storeRooms(ctx context.Context) error {
	return connections.SetAttribute(ctx, m.ID, roomsAttribute, strings.Join(m.rooms, " "))
}

func (m *member) left(room string) reply {
	return reply{Event: "left", Room: room, ID: m.ID, Name: m.Name}
}
