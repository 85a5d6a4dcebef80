package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestEachActionIsRead(t *testing.T) {
	for body, want := range map[string]action{
		`{"action":"name","name":" ada "}`:                            {Action: "name", Name: "ada"},
		`{"action":"join","room":"lobby"}`:                            {Action: "join", Room: "lobby"},
		`{"action":"leave","room":"café-2_b"}`:                        {Action: "leave", Room: "café-2_b"},
		`{"action":"say","room":"lobby","text":"hi\nall","more":[1]}`: {Action: "say", Room: "lobby", Text: "hi\nall"},
		`{"action":"whisper","to":"abc","text":"psst"}`:               {Action: "whisper", To: "abc", Text: "psst"},
		`{"action":"who","room":"lobby"}`:                             {Action: "who", Room: "lobby"},
	} {
		if got, err := parse([]byte(body)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

func TestInvalidRequestIsRefusedWithTheReason(t *testing.T) {
	for body, want := range map[string]string{
		"":                                   "That is not JSON.",
		"hello":                              "That is not JSON.",
		strings.Repeat("[", 100_000):         "That is not JSON.",
		"[]":                                 "`action` is missing, or is not a text.",
		`{"action":7}`:                       "`action` is missing, or is not a text.",
		`{"action":"fly"}`:                   "An action is name, join, leave, say, whisper or who.",
		`{"action":"join"}`:                  "`room` is missing, or is not a text.",
		`{"action":"whisper","text":"psst"}`: "`to` is missing, or is not a text.",
	} {
		if _, err := parse([]byte(body)); err != complaint(want) {
			t.Errorf("%.40s: %v", body, err)
		}
	}
}

func TestNamesRoomsAndTextsHaveBounds(t *testing.T) {
	for _, row := range []struct {
		check func(string) (string, error)
		text  string
		fits  bool
	}{
		{checkName, strings.Repeat("é", 32), true},
		{checkName, strings.Repeat("a", 33), false},
		{checkName, "  ", false},
		{checkName, "a\nb", false},
		{checkName, "ad\u200ba", false},
		{checkName, "\u202eada", false},
		{checkRoom, strings.Repeat("𠀀", 32), true},
		{checkRoom, strings.Repeat("a", 33), false},
		{checkRoom, "", false},
		{checkRoom, "a b", false},
		{checkRoom, "#lobby", false},
		{checkText, strings.Repeat("a", 4096), true},
		{checkText, strings.Repeat("a", 4097), false},
		{checkText, " \n ", false},
	} {
		if _, err := row.check(row.text); (err == nil) != row.fits {
			t.Errorf("%.40q: %v", row.text, err)
		}
	}
}
