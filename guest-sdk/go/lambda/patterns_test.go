package lambda

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Patterns of ARNs are compared with IAM's match of the whole ARN, in regions and accounts by brute force. Its like in JavaScript is
// lambda/tests/patterns.test.js.

const ours = "arn:aws:execute-api:us-east-1:000000000000:api/stage/$connect"

var realAccounts = []string{"000000000000", "111111111111", "121212121212", "123456789012"}

func arns(partition string, regions, accounts []string) []string {
	var all []string
	for _, region := range regions {
		for _, account := range accounts {
			all = append(all, "arn:"+partition+":execute-api:"+region+":"+account+":api/stage/$connect")
		}
	}
	return all
}

// partitionIn returns the partition that a pattern names; else aws.
func partitionIn(pattern string) string {
	for partition := range partitions {
		if fields := strings.Split(pattern, ":"); len(fields) > 1 && fields[1] == partition {
			return partition
		}
	}
	return "aws"
}

// matching is IAM's match: a regular expression over the whole text.
func matching(pattern string) func(string) bool {
	wildcards := strings.NewReplacer(`\*`, ".*", `\?`, ".")
	return regexp.MustCompile("(?s)^" + wildcards.Replace(regexp.QuoteMeta(pattern)) + "$").MatchString
}

var accountLike = regexp.MustCompile(`[\d?*]*\d[\d?*]*`)

// accountsIn returns accounts that fit the digits and wildcards of a pattern.
func accountsIn(pattern string) []string {
	var accounts []string
	for _, digits := range accountLike.FindAllString(pattern, -1) {
		zeros := strings.Repeat("0", max(0, 12-len(strings.ReplaceAll(digits, "*", ""))))
		for _, padded := range []string{digits, "*" + digits, digits + "*"} {
			account := strings.ReplaceAll(strings.Replace(strings.ReplaceAll(padded, "?", "0"), "*", zeros, 1), "*", "")
			if len(account) == 12 {
				accounts = append(accounts, account)
			}
		}
	}
	return accounts
}

// patternOf returns an ARN with wildcards for some of its bytes and without some.
func patternOf(random *rand.Rand) string {
	one := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	pattern := "arn:" + one("aws", "aws", "aws", "aws-cn", "aws-*") + ":execute-api:" + one("eu-west-1", "us-east-1", "cn-north-1", "eu-*", "*", "a") + ":" + one("123456789012", "000000000000", "12", "*", "a") + ":" +
		one("api", "stage", "a", "*") + "/" + one("stage", "api", "*") + "/" + one("$connect", "*")
	for range random.IntN(4) {
		from := random.IntN(len(pattern) + 1)
		to := min(from+[]int{0, 1, 1, 3, 10, 25}[random.IntN(6)], len(pattern))
		pattern = pattern[:from] + one("*", "*", "*", "?", "", ":", "a") + pattern[to:]
	}
	return pattern
}

func TestPatternsMeanAStageIfIAMsMatchIsTrueForSomeRegionAndAccount(t *testing.T) {
	real := map[string][]string{}
	var all []string
	for partition, regions := range partitions {
		real[partition] = arns(partition, regions, realAccounts)
		// What will never be one is here, too: it is refused rather than taken for none.
		unreal := append([]string{"", "api", "a", "stage", "eu", "eu-west-1-api", "nowhere-12"}, regions...)
		all = append(append(all, arns(partition, unreal, []string{"", "1", "12", "000000"})...), real[partition]...)
	}
	random := rand.New(rand.NewPCG(1, 1))
	seen := map[string]int{}
	for range 5_000 {
		pattern := patternOf(random)
		matches := matching(pattern)
		isMeant, remedy := meansResource(pattern, ours, false)
		fields, partition := strings.SplitN(pattern, ":", 6), partitionIn(pattern)
		switch {
		case remedy != "":
			seen["refused"]++
			if len(fields) < 6 && slices.ContainsFunc(real[partition], matches) {
				t.Errorf("%s is refused, and IAM's match is true", pattern)
			}
		case len(fields) == 6:
			// Of a whole ARN, partition, region and account may be any.
			fields[1], fields[3], fields[4] = "*", "*", "*"
			if isMeant != matching(strings.Join(fields, ":"))(ours) {
				t.Errorf("%s: %v", pattern, isMeant)
			}
		case isMeant:
			seen["meant"]++
			if !slices.ContainsFunc(arns(partition, partitions[partition], append(accountsIn(pattern), realAccounts...)), matches) {
				t.Errorf("%s means more than IAM's match", pattern)
			}
		default:
			seen["not meant"]++
			if slices.ContainsFunc(all, matches) {
				t.Errorf("%s means less than IAM's match", pattern)
			}
		}
	}
	if seen["refused"] < 200 || seen["meant"] < 200 || seen["not meant"] < 200 {
		t.Error(seen)
	}
}

func TestPatternsOfNotResourceLeaveOutWhatIAMsMatchIsTrueOfEverywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	seen := map[string]int{}
	for range 5_000 {
		pattern := patternOf(random)
		if strings.Count(pattern, ":") >= 5 {
			continue
		}
		matches, partition := matching(pattern), partitionIn(pattern)
		real := arns(partition, partitions[partition], realAccounts)
		isMeant, remedy := meansResource(pattern, ours, true)
		switch {
		case remedy != "":
			seen["refused"]++
		case isMeant:
			seen["meant"]++
			if slices.ContainsFunc(real, func(arn string) bool { return !matches(arn) }) {
				t.Errorf("%s leaves out more than IAM's match", pattern)
			}
		default:
			seen["not meant"]++
			if slices.ContainsFunc(real, matches) {
				t.Errorf("%s leaves out less than IAM's match", pattern)
			}
		}
	}
	if seen["refused"] < 100 || seen["meant"] < 100 || seen["not meant"] < 100 {
		t.Error(seen)
	}
}
