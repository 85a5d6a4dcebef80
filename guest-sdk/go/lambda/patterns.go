package lambda

import (
	"fmt"
	"slices"
	"strings"
)

// The patterns of a policy: * stands for any run of bytes, colons and slashes included, and ? for one. Their like in JavaScript is
// lambda/patterns.js.

// partitions are those of AWS with their regions, for patterns that do not say where the region ends. One that only another region could
// fit is refused.
var partitions = map[string][]string{
	"aws": strings.Fields(`
		af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1
		ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1
		eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1
		me-central-1 me-south-1 me-west-1 mx-central-1 sa-east-1 sa-west-1 us-east-1 us-east-2 us-west-1 us-west-2`),
	"aws-cn":     {"cn-north-1", "cn-northwest-1"},
	"aws-eusc":   {"eusc-de-east-1"},
	"aws-iso":    {"us-iso-east-1", "us-iso-west-1"},
	"aws-iso-b":  {"us-isob-east-1", "us-isob-west-1"},
	"aws-iso-e":  {"eu-isoe-west-1"},
	"aws-iso-f":  {"us-isof-east-1", "us-isof-south-1"},
	"aws-us-gov": {"us-gov-east-1", "us-gov-west-1"},
}

// In a text for glob, any digit, and a byte that only a wildcard fits.
const digit, unknown = "\x00", "\x01"

// run is a piece of texts: a run of these bytes, of any length.
type run func(byte) bool

var (
	field   run = func(char byte) bool { return char != ':' }
	segment run = func(char byte) bool { return char != '/' }
	name    run = func(char byte) bool { return 'a' <= char && char <= 'z' || char == '-' || isDigit(char) }
	account run = isDigit
)

func isDigit(char byte) bool { return '0' <= char && char <= '9' }

// meansAction tells whether a pattern of actions means that of a handshake. Of a pattern that no action fits it returns the remedy.
func meansAction(pattern string) (bool, string) {
	if glob(strings.ToLower(pattern), "execute-api:invoke") {
		return true, ""
	}
	if !begins(pattern, field, ":") {
		return false, fmt.Sprintf(`%q is no action; write service and action, as in "execute-api:Invoke"`, pattern)
	}
	return false, ""
}

// meansResource tells whether a pattern of ARNs means the handshakes of a stage. A gateway has no partition, no region and no account, and
// policies that were written for AWS name theirs: it does if IAM's match is true for some region and account, in the partition that it
// names. A pattern that leaves them out may have a text that fits them or else what follows; it is refused where that decides, with the
// remedy that is returned. In NotResource (isOpposite) what is meant is left out, so there it has to be true for all regions and accounts.
func meansResource(pattern, arn string, isOpposite bool) (bool, string) {
	refused := func(reason string) (bool, string) {
		return false, fmt.Sprintf(`%q %s; write ARNs whole, as in "arn:aws:execute-api:*:*:API/STAGE/*", or "*"`, pattern, reason)
	}
	resource := arn[strings.LastIndexByte(arn, ':')+1:]

	// With all its colons, no wildcard can stand for one.
	if parts := strings.SplitN(pattern, ":", 6); len(parts) == 6 {
		isPartition := glob(parts[1], "aws") || fits(parts[1], "aws-", name)
		isARN := glob(parts[0], "arn") && isPartition && parts[2] != "" && !strings.Contains(parts[3]+parts[4], "/")
		switch path := parts[5]; {
		case !isARN:
			return refused("is no ARN")
		case !glob(parts[2], "execute-api"):
			return false, ""
		case !begins(path, segment, "/", segment, "/"):
			return refused("ends before the route of an API's stage")
		default:
			return glob(path, resource), ""
		}
	}

	if pattern == "*" || !isOpposite && glob(pattern, arn) {
		return true, ""
	}
	const start, service = "arn:aws", ":execute-api:"
	if !begins(pattern, start, name, service, name, ":", account, ":", segment, "/", segment, "/") {
		isOther := begins(pattern, start, name, ":", field, ":", field, ":", field, ":") && !begins(pattern, start, name, service, field, ":", field, ":")
		if !isOther {
			return refused("is no whole ARN")
		}
	}
	if !fits(pattern, start, name, service, name, ":", account, ":"+resource) {
		return false, ""
	}
	// A wildcard may stand for the partition or for the colons after it: then it is aws.
	partition := "aws"
	if parts := strings.Split(pattern, ":"); len(parts) > 1 && partitions[parts[1]] != nil {
		partition = parts[1]
	}
	isMeantIn := func(region, digit string) bool {
		return glob(pattern, "arn:"+partition+service+region+":"+strings.Repeat(digit, 12)+":"+resource)
	}
	regions, isMeant := partitions[partition], false
	if isOpposite {
		isMeant = !slices.ContainsFunc(regions, func(region string) bool { return !isMeantIn(region, unknown) })
	} else {
		isMeant = slices.ContainsFunc(regions, func(region string) bool { return isMeantIn(region, digit) })
	}
	if !isMeant {
		return refused("means this stage or not by what stands for partition, region and account")
	}
	return true, ""
}

// glob tells whether a pattern fits a text. In linear time for one star, and never worse than the product of both lengths.
func glob(pattern, text string) bool {
	at, star, mark := 0, -1, 0
	for place := 0; place < len(text); {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, mark = at, place
			at++
		case at < len(pattern) && (pattern[at] == '?' || takes(pattern[at], text[place])):
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

func takes(literal, char byte) bool {
	if char == digit[0] {
		return isDigit(literal)
	}
	return char != unknown[0] && literal == char
}

// fits tells whether a pattern fits some text that is made of these pieces: strings, and runs.
func fits(pattern string, pieces ...any) bool { return placesAfter(pattern, pieces)[len(pattern)] }

// begins tells whether a pattern fits some text that begins with these pieces, and goes on.
func begins(pattern string, pieces ...any) bool {
	return slices.Contains(placesAfter(pattern, pieces)[:len(pattern)], true)
}

// placesAfter returns at which places in a pattern the texts that are made of these pieces may go on.
func placesAfter(pattern string, pieces []any) []bool {
	places := make([]bool, len(pattern)+1)
	places[0] = true
	pass(pattern, places, nil)
	for _, piece := range pieces {
		switch piece := piece.(type) {
		case run:
			pass(pattern, places, piece)
		case string:
			for _, char := range []byte(piece) {
				next := make([]bool, len(places))
				for place := range len(pattern) {
					switch {
					case !places[place]:
					case pattern[place] == '*':
						next[place] = true
					case pattern[place] == '?' || pattern[place] == char:
						next[place+1] = true
					}
				}
				pass(pattern, next, nil)
				places = next
			}
		}
	}
	return places
}

// pass adds the places that are reached by none or more of the bytes.
func pass(pattern string, places []bool, chars run) {
	for place := range len(pattern) {
		isFree := pattern[place] == '*' || chars != nil && (pattern[place] == '?' || chars(pattern[place]))
		places[place+1] = places[place+1] || places[place] && isFree
	}
}
