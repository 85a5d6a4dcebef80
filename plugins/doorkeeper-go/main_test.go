package main

import (
	"errors"
	"testing"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

// ours was signed by openssl with the secret of these tests.
const ours = "ada.gold.1767225660.7f75f0703c22b4e10892f25783d02c2cf45374debc69dc7fecc1ca645377fbee"

// decided returns the identity of a client with this ticket, or the status that refuses it.
func decided(t *testing.T, ticket string) (lockgate.Identity, int) {
	t.Helper()
	request := lockgatetest.Handshake()
	if ticket != "" {
		request.Query = lockgate.Fields{{Name: "ticket", Value: ticket}}
	}
	identity, err := lockgatetest.New(t, whoami{}).Authorize(authorize, request)
	var refusal *lockgate.Refusal
	if errors.As(err, &refusal) {
		return identity, refusal.Status
	}
	return identity, 0
}

func TestTicketSaysWhoTheClientIs(t *testing.T) {
	t.Setenv("TICKET_SECRET", "for development only")
	identity, status := decided(t, ours)
	if status != 0 || identity.Principal != "ada" || identity.Values["plan"] != "gold" || !identity.ExpiresAt.Equal(time.Unix(1767225660, 0)) {
		t.Fatal(identity, status)
	}
}

func TestClientWithoutAGoodTicketIsRefused(t *testing.T) {
	t.Setenv("TICKET_SECRET", "for development only")
	for ticket, wanted := range map[string]int{"": 401, ".": 403, "eve" + ours[3:]: 403, ours[:len(ours)-1]: 403, ours + "00": 403} {
		if _, status := decided(t, ticket); status != wanted {
			t.Errorf("%q: %d", ticket, status)
		}
	}
	t.Setenv("TICKET_SECRET", "")
	if _, status := decided(t, ours); status != 500 {
		t.Errorf("without a secret: %d", status)
	}
}

func TestClientIsToldWhoItIs(t *testing.T) {
	gateway := lockgatetest.New(t, whoami{})
	gateway.SetPrincipal("ada", map[string]any{"plan": "gold"})
	ada, _ := gateway.Connect()
	answer, err := gateway.Message(ada, lockgate.Text("who am I?"))
	if err != nil || answer.Text() != "ada (gold)" {
		t.Fatal(answer, err)
	}
}
