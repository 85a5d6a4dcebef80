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
	invokes, err := isAmong(members, "Action", place, func(action string) bool { return glob(strings.ToLower(action), "execute-api:invoke") })
	if err != nil {
		return "", err
	}
	meant, err := isAmong(members, "Resource", place, func(resource string) bool { return means(resource, asked.arn) })
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

// isAmong tells whether one of a member's patterns fits; of its opposite, NotAction or NotResource, whether none does.
func isAmong(members statement, name, place string, fits func(string) bool) (bool, error) {
	opposite := "Not" + name
	some, isSome := members[name]
	others, isOthers := members[opposite]
	if isSome == isOthers {
		return false, unclear(place+"."+name, "write either "+name+" or "+opposite)
	}
	if isSome {
		patterns, err := texts(some, place+"."+name)
		return slices.ContainsFunc(patterns, fits), err
	}
	patterns, err := texts(others, place+"."+opposite)
	if err == nil && len(patterns) == 0 {
		err = unclear(place+"."+opposite, "an empty list means everything; name what it leaves out")
	}
	return !slices.ContainsFunc(patterns, fits), err
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

// means tells whether the pattern of an ARN means the handshakes of a stage. Region and account are not looked at: a gateway has
// neither, and policies that were written for AWS name its own.
func means(pattern, arn string) bool {
	parts, ours := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if glob(pattern, arn) {
		return true
	}
	if parts[0] != "arn" || len(parts) < 4 {
		return false
	}
	start := strings.Join(parts[:3], ":") + ":"
	if len(parts) == 6 {
		return glob(start+ours[3]+":"+ours[4]+":"+parts[5], arn)
	}
	// It ends within region or account: they are up to its first star, which stands for what follows, too.
	last := parts[len(parts)-1]
	star := strings.IndexByte(last, '*')
	return star >= 0 && glob(start+last[star:], arn)
}

// glob tells whether a pattern fits a text: * stands for any run of bytes and ? for one. In linear time for one star, and never
// worse than the product of both lengths.
func glob(pattern, text string) bool {
	at, star, mark := 0, -1, 0
	for place := 0; place < len(text); {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, mark = at, place
			at++
		case at < len(pattern) && (pattern[at] == '?' || pattern[at] == text[place]):
			at++
			place++
		case star >= 0:
			mark++
			at, place = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[at:], "*") == ""
}
