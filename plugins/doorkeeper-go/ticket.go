package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// ticket is NAME.PLAN.EXPIRES.SIGNATURE. It expires at a time in seconds since 1970; the signature is the HMAC-SHA-256 of all
// before it, in hexadecimal. The name may have dots. Any language makes one, and so does a shell:
//
//	ticket=ada.gold.$(date -d '+5 minutes' +%s)
//	echo "$ticket.$(printf %s "$ticket" | openssl dgst -sha256 -hmac "$TICKET_SECRET" -r | cut -d ' ' -f 1)"
type ticket struct {
	name, plan string
	expires    time.Time
}

// readTicket reads a ticket that was signed with this secret.
func readTicket(text string, secret []byte) (ticket, bool) {
	signed, signature, ok := cutLast(text)
	given, err := hex.DecodeString(signature)
	if !ok || err != nil {
		return ticket{}, false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	// In constant time: the time of an answer tells nothing of the right signature.
	if !hmac.Equal(given, mac.Sum(nil)) {
		return ticket{}, false
	}
	rest, expires, _ := cutLast(signed)
	name, plan, ok := cutLast(rest)
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if !ok || err != nil {
		return ticket{}, false
	}
	return ticket{name, plan, time.Unix(int64(seconds), 0)}, true
}

// cutLast cuts a text at its last dot.
func cutLast(text string) (before, after string, found bool) {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return "", text, false
	}
	return text[:dot], text[dot+1:], true
}
