package main

import (
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

func TestEveryoneGetsTheMessage(t *testing.T) {
	gateway := lockgatetest.New(t, lambda.New(handle))
	ada, _ := gateway.Connect()
	bob, _ := gateway.Connect()
	if _, err := gateway.Message(ada, lockgate.Text(`{"data": "hello"}`)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{ada, bob} {
		if received := gateway.Received(id); len(received) != 1 || received[0].Text() != "hello" {
			t.Errorf("%s got %v", id, received)
		}
	}
	answer, err := gateway.Message(ada, lockgate.Text("hello"))
	if err != nil || answer.Text() != `Send {"data": "…"}` {
		t.Error(answer, err)
	}
}
