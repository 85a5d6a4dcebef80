package main

import (
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

func TestMessageComesBack(t *testing.T) {
	gateway := lockgatetest.New(t, plugin{})
	client, err := gateway.Connect()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := gateway.Message(client, lockgate.Text("hello"))
	if err != nil || answer.Text() != "hello" {
		t.Fatal(answer, err)
	}
}
