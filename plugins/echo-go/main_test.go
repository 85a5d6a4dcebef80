package main

import (
	"reflect"
	"testing"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/lockgatetest"
)

func TestMessageComesBack(t *testing.T) {
	gateway := lockgatetest.New(t, echo{})
	client, err := gateway.Connect()
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []*lockgate.Message{lockgate.Text("hello"), lockgate.Binary([]byte{0, 255})} {
		answer, err := gateway.Message(client, message)
		if err != nil || !reflect.DeepEqual(answer, message) {
			t.Errorf("%v came back as %v, %v", message, answer, err)
		}
	}
}
