package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	nameCharacters = 32
	// At most 128 bytes in UTF-8, the limit of a group's name.
	roomCharacters = 32
	textCharacters = 4096
)

// An action of a client. As JSON: {"action": "join", "room": "lobby"}.
type action struct {
	// One of those in actions.
	Action string
	Name   string
	Room   string
	To     string
	Text   string
}

// The actions, each with the fields that it has.
var actions = map[string][]string{
	"name":    {"name"},         // takes another name
	"join":    {"room"},         // enters a room
	"leave":   {"room"},         // leaves a room
	"say":     {"room", "text"}, // says something to a room
	"whisper": {"to", "text"},   // says something to one member, by connection id
	"who":     {"room"},         // asks for the members of a room
}

// A complaint is an error with a text for the client.
type complaint string

func (c complaint) Error() string { return string(c) }

// parse parses the body of a message. Fails with a complaint.
func parse(body []byte) (action, error) {
	if !json.Valid(body) {
		return action{}, complaint("That is not JSON.")
	}
	var values map[string]any
	_ = json.Unmarshal(body, &values) // another value than an object has no fields
	field := func(name string) (string, error) {
		text, ok := values[name].(string)
		if !ok {
			return "", complaint(fmt.Sprintf("`%s` is missing, or is not a text.", name))
		}
		return text, nil
	}

	name, err := field("action")
	if err != nil {
		return action{}, err
	}
	fields, ok := actions[name]
	if !ok {
		return action{}, complaint("An action is name, join, leave, say, whisper or who.")
	}
	parsed := action{Action: name}
	checks := []struct {
		field string
		value *string
		check func(string) (string, error)
	}{
		{"name", &parsed.Name, checkName},
		{"room", &parsed.Room, checkRoom},
		{"to", &parsed.To, func(id string) (string, error) { return id, nil }},
		{"text", &parsed.Text, checkText},
	}
	for _, check := range checks {
		if !slices.Contains(fields, check.field) {
			continue
		}
		written, err := field(check.field)
		if err != nil {
			return action{}, err
		}
		if *check.value, err = check.check(written); err != nil {
			return action{}, err
		}
	}
	return parsed, nil
}

// checkName checks the name of a member, and trims it.
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > nameCharacters || strings.ContainsFunc(name, isInvisible) {
		return "", complaint(fmt.Sprintf("A name has 1 to %d characters, all of them visible.", nameCharacters))
	}
	return name, nil
}

func checkRoom(room string) (string, error) {
	isOther := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '-' && r != '_' }
	if room == "" || utf8.RuneCountInString(room) > roomCharacters || strings.ContainsFunc(room, isOther) {
		return "", complaint(fmt.Sprintf("The name of a room has 1 to %d letters, digits, `-` or `_`.", roomCharacters))
	}
	return room, nil
}

func checkText(text string) (string, error) {
	if strings.TrimSpace(text) == "" || utf8.RuneCountInString(text) > textCharacters {
		return "", complaint(fmt.Sprintf("A text has 1 to %d characters, not all of them blank.", textCharacters))
	}
	return text, nil
}

// isInvisible tells whether a character is a control character, or could make a name look like another or reverse the line.
func isInvisible(r rune) bool {
	return unicode.IsControl(r) || r == '\u00ad' || r == '\u061c' || r >= '\u200b' && r <= '\u200f' ||
		r >= '\u2028' && r <= '\u202e' || r >= '\u2060' && r <= '\u206f' || r == '\ufeff'
}

// A reply is an event for a client. As JSON: {"event": "joined", "room": "lobby", "id": "…", "name": "ada"}.
//
//	welcome    the client is connected, with this id and name
//	renamed    a member has a new name
//	joined     a member entered a room
//	left       a member left a room, or its connection ended
//	said       a member said something to a room, at a time in milliseconds since 1970
//	whispered  a member said something to the connection "to" alone
//	error      the action failed, for the reason in the text
//
// The id and the name are those of the member who acted.
type reply struct {
	Event string `json:"event"`
	Room  string `json:"room,omitempty"`
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	To    string `json:"to,omitempty"`
	Text  string `json:"text,omitempty"`
	At    int64  `json:"at,omitempty"`
}

// A memberList is the event "members": the members of a room, count in all, with the first ones listed.
type memberList struct {
	Event   string    `json:"event"`
	Room    string    `json:"room"`
	Members []*member `json:"members"`
	Count   int       `json:"count"`
}
