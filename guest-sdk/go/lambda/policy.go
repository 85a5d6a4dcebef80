package lambda

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The policies of Lambda authorizers, as IAM evaluates them, as far as that is here. Its like in JavaScript is lambda/policy.js.

// asked is the handshake that a policy is evaluated for.
type asked struct {
	arn      string
	sourceIP string
	secure   bool
	at       time.Time
}

type statement = map[string]json.RawMessage

// allows tells whether a statement allows the handshake and none denies it. All of the policy has to be understood: what is left
// out could be what denies.
func allows(document json.RawMessage, asked asked) (bool, error) {
	policy, err := object(document, "policyDocument", "Version", "Id", "Statement")
	if err != nil {
		return false, err
	}
	if version, given := policy["Version"]; given && !slices.Contains([]string{`""`, `"2008-10-17"`, `"2012-10-17"`}, string(version)) {
		return false, unclear("policyDocument.Version", `write "2012-10-17"`)
	}
	if _, given := policy["Statement"]; !given {
		return false, unclear("policyDocument.Statement", "write a statement, or a list of them")
	}
	allowed, denied := false, false
	for index, data := range list(policy["Statement"]) {
		effect, err := effectOf(data, fmt.Sprintf("policyDocument.Statement[%d]", index), asked)
		if err != nil {
			return false, err
		}
		allowed = allowed || effect == "Allow"
		denied = denied || effect == "Deny"
	}
	return allowed && !denied, nil
}

// effectOf returns the effect of a statement on the handshake; none if it is about something else.
func effectOf(data json.RawMessage, place string, asked asked) (string, error) {
	members, err := object(data, place, "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return "", err
	}
	var effect string
	if json.Unmarshal(members["Effect"], &effect) != nil || (effect != "Allow" && effect != "Deny") {
		return "", unclear(place+".Effect", `write "Allow" or "Deny"`)
	}
	invokes, err := isAmong(members, "Action", place, func(action string, _ bool) (bool, string) { return meansAction(action) })
	if err != nil {
		return "", err
	}
	meant, err := isAmong(members, "Resource", place, func(resource string, isOpposite bool) (bool, string) {
		return meansResource(resource, asked.arn, isOpposite)
	})
	if err != nil {
		return "", err
	}
	holds := true
	if conditions, given := members["Condition"]; given {
		if holds, err = conditionsHold(conditions, place+".Condition", asked); err != nil {
			return "", err
		}
	}
	if !invokes || !meant || !holds {
		return "", nil
	}
	return effect, nil
}

// isAmong tells whether one of a member's patterns fits; of its opposite, NotAction or NotResource, whether none does. All are
// looked at. Of what is not understood, fits returns the remedy.
func isAmong(members statement, name, place string, fits func(pattern string, isOpposite bool) (bool, string)) (bool, error) {
	data, isPlain := members[name]
	others, isOpposite := members["Not"+name]
	if isPlain == isOpposite {
		return false, unclear(place+"."+name, "write either "+name+" or Not"+name)
	}
	where := place + "." + name
	if isOpposite {
		data, where = others, place+".Not"+name
	}
	patterns, err := texts(data, where)
	if err != nil {
		return false, err
	}
	if isOpposite && len(patterns) == 0 {
		return false, unclear(where, "an empty list means everything; name what it leaves out")
	}
	some := false
	for _, pattern := range patterns {
		fit, remedy := fits(pattern, isOpposite)
		if remedy != "" {
			return false, unclear(where, remedy)
		}
		some = some || fit
	}
	return some != isOpposite, nil
}

func conditionsHold(data json.RawMessage, place string, asked asked) (bool, error) {
	operators, err := object(data, place)
	if err != nil {
		return false, err
	}
	all := true
	for _, operator := range slices.Sorted(maps.Keys(operators)) {
		keys, err := object(operators[operator], place+"."+operator)
		if err != nil {
			return false, err
		}
		if len(keys) == 0 {
			return false, unclear(place+"."+operator, "name a key and its values")
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			where := place + "." + operator + "." + key
			values, err := scalars(keys[key], where)
			if err != nil {
				return false, err
			}
			hold, remedy := holds(operator, key, values, asked)
			if remedy != "" {
				return false, unclear(where, remedy)
			}
			all = all && hold
		}
	}
	return all, nil
}

// object returns the members of an object, which may have no others than these, if any are named.
func object(data json.RawMessage, place string, names ...string) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil || members == nil {
		return nil, unclear(place, "write an object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if len(names) > 0 && !slices.Contains(names, name) {
			return nil, unclear(place+"."+name, "it may have "+strings.Join(names, ", "))
		}
	}
	return members, nil
}

// list returns the items of an element that may stand without a list around it.
func list(data json.RawMessage) []json.RawMessage {
	var items []json.RawMessage
	if json.Unmarshal(data, &items) != nil || items == nil {
		return []json.RawMessage{data}
	}
	return items
}

func texts(data json.RawMessage, place string) ([]string, error) {
	var all []string
	for _, item := range list(data) {
		var text *string
		if json.Unmarshal(item, &text) != nil || text == nil {
			return nil, unclear(place, "write a text, or a list of them")
		}
		all = append(all, *text)
	}
	return all, checkVariables(all, place)
}

// scalars returns the values of a condition as texts.
func scalars(data json.RawMessage, place string) ([]string, error) {
	var all []string
	for _, item := range list(data) {
		var value any
		if json.Unmarshal(item, &value) != nil {
			value = nil
		}
		switch value := value.(type) {
		case string:
			all = append(all, value)
		case float64, bool:
			all = append(all, string(item))
		default:
			return nil, unclear(place, "write a value, or a list of them")
		}
	}
	if len(all) == 0 {
		return nil, unclear(place, "write a value, or a list of them")
	}
	return all, checkVariables(all, place)
}

func checkVariables(texts []string, place string) error {
	if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "${") }) {
		return unclear(place, "policy variables are not replaced; write the value")
	}
	return nil
}

func unclear(place, remedy string) error {
	return fmt.Errorf("%s is not understood; %s", place, remedy)
}
