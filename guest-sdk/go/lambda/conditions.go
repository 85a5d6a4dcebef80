package lambda

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The conditions of a policy that are evaluated here. Their like in JavaScript is lambda/conditions.js.

var comparisons = map[string]func(now, value time.Time) bool{
	"DateEquals":            func(now, value time.Time) bool { return now.Equal(value) },
	"DateNotEquals":         func(now, value time.Time) bool { return now.Equal(value) },
	"DateLessThan":          func(now, value time.Time) bool { return now.Before(value) },
	"DateLessThanEquals":    func(now, value time.Time) bool { return !now.After(value) },
	"DateGreaterThan":       func(now, value time.Time) bool { return now.After(value) },
	"DateGreaterThanEquals": func(now, value time.Time) bool { return !now.Before(value) },
}

// holds tells whether a condition holds: for one of its values, or for none if its operator is negative. All values are looked at.
// Of what is not understood it returns the remedy.
func holds(operator, key string, values []string, asked asked) (bool, string) {
	// Of keys that a handshake always has, IfExists says nothing.
	operator = strings.TrimSuffix(operator, "IfExists")
	key = strings.ToLower(key)
	compare, isTime := comparisons[operator]
	switch {
	case (operator == "IpAddress" || operator == "NotIpAddress") && key == "aws:sourceip":
		within, remedy := isWithinOne(values, asked.sourceIP)
		return within == (operator == "IpAddress"), remedy
	case isTime && (key == "aws:currenttime" || key == "aws:epochtime"):
		some := false
		for _, value := range values {
			at, known := timeOf(value)
			if !known {
				return false, `write times as in "2030-01-31T12:00:00Z", or as whole seconds since 1970`
			}
			some = some || compare(asked.at, at)
		}
		return some == (operator != "DateNotEquals"), ""
	case operator == "Bool" && key == "aws:securetransport":
		some := false
		for _, value := range values {
			if value != "true" && value != "false" {
				return false, "write true or false"
			}
			some = some || value == strconv.FormatBool(asked.secure)
		}
		return some, ""
	}
	return false, "evaluated are IpAddress and NotIpAddress of aws:SourceIp, Date… of aws:CurrentTime and aws:EpochTime, and Bool of aws:SecureTransport; decide by others in the authorizer"
}

// isWithinOne tells whether an address is of one of the networks: 192.0.2.0/24, or an address alone. Of what is none it returns
// the remedy.
func isWithinOne(networks []string, sourceIP string) (bool, string) {
	address, err := netip.ParseAddr(sourceIP)
	if err != nil || address.Zone() != "" {
		return false, "the client's address is none of IPv4 or IPv6"
	}
	within := false
	for _, text := range networks {
		network, err := netip.ParsePrefix(text)
		if single, failed := netip.ParseAddr(text); err != nil && failed == nil && single.Zone() == "" {
			network, err = netip.PrefixFrom(single, single.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			return false, `write networks as in "192.0.2.0/24" and "2001:db8::/32"`
		}
		within = within || network.Contains(address.Unmap())
	}
	return within, ""
}

// timeOf reads a date or time of ISO 8601, or seconds since 1970.
func timeOf(text string) (time.Time, bool) {
	// Eleven digits end in the year 5138. Milliseconds have thirteen, and would be a time that never comes.
	if strings.Trim(text, "0123456789") == "" && len(text) >= 5 && len(text) <= 11 {
		seconds, err := strconv.ParseInt(text, 10, 64)
		return time.Unix(seconds, 0), err == nil
	}
	for _, clock := range []string{"", "T15:04", "T15:04:05", "T15:04:05.000"} {
		for _, zone := range []string{"Z07:00", "-07:00"} {
			layout := time.DateOnly
			if clock != "" {
				layout += clock + zone
			}
			// The parser takes more than it writes.
			if at, err := time.Parse(layout, text); err == nil && at.Format(layout) == text && at.Year() >= 1000 {
				return at, true
			}
		}
	}
	return time.Time{}, false
}
