// A room and an echo, as one writes them with gorilla/websocket: by five actions.
package main

import (
	"crypto/rand"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

// A client's socket takes one writer at a time.
type client struct {
	socket *websocket.Conn
	id     string
	lock   sync.Mutex
}

func (c *client) send(text []byte) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.socket.WriteMessage(websocket.TextMessage, text)
}

func (c *client) sendPrepared(message *websocket.PreparedMessage) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.socket.WritePreparedMessage(message)
}

type room struct {
	lock    sync.RWMutex
	members map[*client]struct{}
}

func (r *room) join(c *client) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.members[c] = struct{}{}
}

func (r *room) leave(c *client) {
	r.lock.Lock()
	defer r.lock.Unlock()
	delete(r.members, c)
}

func (r *room) publish(text []byte) error {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		return err
	}
	r.lock.RLock()
	defer r.lock.RUnlock()
	for member := range r.members {
		// A member that has gone ends in its own loop.
		_ = member.sendPrepared(message)
	}
	return nil
}

var (
	upgrader = websocket.Upgrader{}
	everyone = room{members: map[*client]struct{}{}}
)

func serve(w http.ResponseWriter, r *http.Request) {
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	c := &client{socket: socket, id: rand.Text()}
	defer everyone.leave(c)
	for {
		_, text, err := socket.ReadMessage()
		if err != nil {
			return
		}
		if err := c.handle(text); err != nil {
			return
		}
	}
}

func (c *client) handle(text []byte) error {
	var message struct {
		Action string `json:"action"`
	}
	if err := json.Unmarshal(text, &message); err != nil {
		return err
	}
	switch message.Action {
	case "join":
		everyone.join(c)
		return c.send(text)
	case "leave":
		everyone.leave(c)
		return c.send(text)
	case "publish":
		return everyone.publish(text)
	case "echo":
		return c.send(text)
	case "who":
		return c.send([]byte(c.id))
	}
	return nil
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(serve)))
}
