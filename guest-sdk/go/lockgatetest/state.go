package lockgatetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/internal/gateway"
)

// The gateway's defaults, as in `lockgate config schema`.
const (
	maxAttributes = 4 << 10
	maxGroups     = 64
	maxMessage    = 128 << 10
	maxPosts      = 256
)

// Limits that no configuration changes.
const (
	maxGroupName = 128
	maxPage      = 1_000
	maxReason    = 123
	// A packet has no room for more. The gateway finds out how much the client's network takes, 1,100 bytes at least.
	maxDatagram = 1_200
)

// The time before the first event: the clock of a test advances only by a millisecond an event.
const first = 1_700_000_000_000

// A Call is one that a handler made to the gateway: a [Send], a [SendDatagram], a [Close] or a [Publish].
type Call interface{ call() }

// Send is a call of connections.Send.
type Send struct {
	To      lockgate.ConnectionID
	Message lockgate.Message
}

// SendDatagram is a call of connections.SendDatagram.
type SendDatagram struct {
	To      lockgate.ConnectionID
	Payload []byte
}

// Close is a call of connections.Close.
type Close struct {
	ID      lockgate.ConnectionID
	Closing lockgate.Closing
}

// Publish is a call of groups.Publish or groups.PublishExcept.
type Publish struct {
	Group   string
	Message lockgate.Message
	// The connection that was left out; empty for none.
	Exclude lockgate.ConnectionID
}

func (Send) call()         {}
func (SendDatagram) call() {}
func (Close) call()        {}
func (Publish) call()      {}

// state has the connections, the groups, and the calls of the handler. A handler's goroutines may call at the same time.
type state struct {
	sync.Mutex
	variables  map[string]string
	principal  string
	authorizer map[string]any
	// Whether the clients to come take datagrams, and the stage too.
	takesDatagrams bool
	connections    map[string]*connection
	calls          []Call
	// The connection of the event under way, and its route.
	current   string
	isMessage bool
	// Whether its message came as a datagram.
	isDatagram bool
	// The number of events so far.
	events    int64
	postsLeft int
}

var _ gateway.Fake = (*state)(nil)

// ofPrincipal begins the names of the groups that have the connections of a principal.
const ofPrincipal = "$principal/"

// checkChosen checks that connections join and leave the group by themselves.
func checkChosen(group string) error {
	if strings.HasPrefix(group, ofPrincipal) {
		return gateway.Invalid("a connection is in the group of its principal as long as it is open")
	}
	return nil
}

type connection struct {
	life      life
	principal string
	expiresAt time.Time
	// Those of the renewal; nil leaves those of the authorizer.
	renewed    map[string]any
	info       gateway.Info
	attributes map[string]string
	groups     map[string]bool
	received   []lockgate.Message
	datagrams  [][]byte
	// Whether its client takes datagrams.
	takesDatagrams bool
	closing        *lockgate.Closing
	fails          error
}

type life int

const (
	// The handler has not decided yet: other connections do not see this one.
	opening life = iota
	open
	ended
)

func newState() *state {
	return &state{variables: map[string]string{}, connections: map[string]*connection{}}
}

// open adds the connection of a client that asks to be let in.
func (s *state) open(handshake lockgate.Handshake) string {
	id := fmt.Sprintf("connection-%04d", len(s.connections)+1)
	now := first + s.events + 1
	userAgent, _ := handshake.Header("user-agent")
	s.connections[id] = &connection{
		principal:      s.principal,
		takesDatagrams: s.takesDatagrams,
		info: gateway.Info{
			ConnectedAt:  now,
			LastActiveAt: now,
			SourceIP:     handshake.SourceIP,
			UserAgent:    userAgent,
			DomainName:   handshake.DomainName,
		},
		attributes: map[string]string{},
		groups:     map[string]bool{},
	}
	return id
}

func (s *state) letIn(id, subprotocol string) {
	connection := s.connections[id]
	connection.life = open
	connection.info.Subprotocol = subprotocol
}

// turnAway removes what the handler may have done for a refused client.
func (s *state) turnAway(id string) {
	connection := s.connections[id]
	connection.life = ended
	clear(connection.groups)
	connection.received = nil
}

func (s *state) end(id string) {
	connection := s.connections[id]
	connection.life = ended
	clear(connection.groups)
}

// begin begins an event.
func (s *state) begin(id, routeKey string, isDatagram bool) {
	s.Lock()
	defer s.Unlock()
	s.isDatagram = isDatagram
	s.current, s.isMessage = id, routeKey != "$connect" && routeKey != "$disconnect"
	s.events++
	s.postsLeft = maxPosts
	s.connections[id].info.LastActiveAt = first + s.events
}

// membersOf returns the members of a group, ordered by id: of a principal's group its connections.
func (s *state) membersOf(group string) []string {
	principal, isPrincipal := strings.CutPrefix(group, ofPrincipal)
	var ids []string
	for id, connection := range s.connections {
		isMember := connection.groups[group]
		if isPrincipal {
			isMember = connection.principal == principal
		}
		if connection.life == open && isMember {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// find returns the event's own connection in any state, or an open one.
func (s *state) find(id string) (*connection, error) {
	connection, ok := s.connections[id]
	if !ok || id != s.current && connection.life != open {
		return nil, lockgate.ErrGone
	}
	return connection, nil
}

func (s *state) takePost() error {
	if s.postsLeft == 0 {
		return lockgate.ErrBusy
	}
	s.postsLeft--
	return nil
}

// take queues a message, unless the test makes it fail.
func (c *connection) take(message lockgate.Message) error {
	if c.closing != nil || c.life == ended {
		return lockgate.ErrGone
	}
	if c.fails != nil {
		return c.fails
	}
	message.Data = slices.Clone(message.Data)
	c.received = append(c.received, message)
	return nil
}

func (s *state) Send(to string, sent gateway.Message) error {
	s.Lock()
	defer s.Unlock()
	message := lockgate.Message(sent)
	s.calls = append(s.calls, Send{To: to, Message: message})
	if err := check(message); err != nil {
		return err
	}
	connection, err := s.find(to)
	if err != nil {
		return err
	}
	if err := s.takePost(); err != nil {
		return err
	}
	if len(message.Data) > maxMessage {
		return lockgate.ErrTooLarge
	}
	return connection.take(message)
}

func (s *state) SendDatagram(to string, payload []byte) error {
	s.Lock()
	defer s.Unlock()
	payload = slices.Clone(payload)
	s.calls = append(s.calls, SendDatagram{To: to, Payload: payload})
	connection, err := s.find(to)
	if err != nil {
		return err
	}
	if err := s.takePost(); err != nil {
		return err
	}
	switch {
	case !s.takesDatagrams:
		return lockgate.ErrDenied
	case !connection.takesDatagrams:
		return gateway.Invalid("the client takes no datagrams")
	case connection.closing != nil || connection.life == ended:
		return lockgate.ErrGone
	case len(payload) > maxDatagram:
		return lockgate.ErrTooLarge
	case connection.fails != nil:
		return connection.fails
	case connection.life == open:
		connection.datagrams = append(connection.datagrams, payload)
	}
	return nil
}

func (s *state) Close(id string, code uint16, reason string) error {
	s.Lock()
	defer s.Unlock()
	closing := lockgate.Closing{Code: code, Reason: reason}
	s.calls = append(s.calls, Close{ID: id, Closing: closing})
	maySend := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
	if !maySend {
		return gateway.Invalid(fmt.Sprintf("no endpoint may send the close code %d", code))
	}
	if len(reason) > maxReason {
		return gateway.Invalid(fmt.Sprintf("a reason has at most %d bytes", maxReason))
	}
	connection, err := s.find(id)
	if err != nil {
		return err
	}
	if connection.closing != nil || connection.life == ended {
		return lockgate.ErrGone
	}
	connection.closing = &closing
	return nil
}

func (s *state) InfoOf(id string) (gateway.Info, error) {
	s.Lock()
	defer s.Unlock()
	connection, err := s.find(id)
	if err != nil {
		return gateway.Info{}, err
	}
	return connection.info, nil
}

func (s *state) Attribute(id, name string) (string, bool, error) {
	s.Lock()
	defer s.Unlock()
	connection, err := s.find(id)
	if err != nil {
		return "", false, err
	}
	value, set := connection.attributes[name]
	return value, set, nil
}

func (s *state) Attributes(id string) ([]gateway.Field, error) {
	s.Lock()
	defer s.Unlock()
	connection, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return sorted(connection.attributes), nil
}

func (s *state) SetAttribute(id, name string, value *string) error {
	s.Lock()
	defer s.Unlock()
	connection, err := s.find(id)
	if err != nil {
		return err
	}
	if name == "" {
		return gateway.Invalid("an attribute's name is empty")
	}
	if value == nil {
		delete(connection.attributes, name)
		return nil
	}
	if !utf8.ValidString(name) || !utf8.ValidString(*value) {
		return gateway.Invalid("a text is not UTF-8")
	}
	const each = 8
	held := each + len(name) + len(*value)
	for other, value := range connection.attributes {
		if other != name {
			held += each + len(other) + len(value)
		}
	}
	if held > maxAttributes {
		return lockgate.ErrTooLarge
	}
	connection.attributes[name] = *value
	return nil
}

func (s *state) Join(group, id string) error {
	s.Lock()
	defer s.Unlock()
	if err := checkChosen(group); err != nil {
		return err
	}
	if group == "" || len(group) > maxGroupName {
		return gateway.Invalid(fmt.Sprintf("a group's name has 1 to %d bytes", maxGroupName))
	}
	connection, err := s.find(id)
	if err != nil {
		return err
	}
	if connection.life == ended {
		return lockgate.ErrGone
	}
	if !connection.groups[group] && len(connection.groups) >= maxGroups {
		return lockgate.ErrBusy
	}
	connection.groups[group] = true
	return nil
}

func (s *state) Leave(group, id string) error {
	s.Lock()
	defer s.Unlock()
	if err := checkChosen(group); err != nil {
		return err
	}
	connection, err := s.find(id)
	if err != nil {
		return err
	}
	delete(connection.groups, group)
	return nil
}

func (s *state) Publish(group string, sent gateway.Message, exclude *string) (uint32, error) {
	s.Lock()
	defer s.Unlock()
	message := lockgate.Message(sent)
	call := Publish{Group: group, Message: message}
	if exclude != nil {
		call.Exclude = *exclude
	}
	s.calls = append(s.calls, call)
	if err := check(message); err != nil {
		return 0, err
	}
	if err := s.takePost(); err != nil {
		return 0, err
	}
	if len(message.Data) > maxMessage {
		return 0, lockgate.ErrTooLarge
	}
	var reached uint32
	for _, id := range s.membersOf(group) {
		if exclude != nil && id == *exclude {
			continue
		}
		member := s.connections[id]
		switch err := member.take(message); err {
		case nil:
			reached++
		case lockgate.ErrGone:
		case lockgate.ErrBusy:
			member.closing = &lockgate.Closing{Code: 1013, Reason: "slow consumer"}
		default:
			return 0, err
		}
	}
	return reached, nil
}

func (s *state) Members(group string, after *string, limit uint32) ([]string, error) {
	s.Lock()
	defer s.Unlock()
	if limit < 1 || limit > maxPage {
		return nil, gateway.Invalid(fmt.Sprintf("limit is 1 to %d", maxPage))
	}
	members := s.membersOf(group)
	if after != nil {
		members = slices.DeleteFunc(members, func(id string) bool { return id <= *after })
	}
	return members[:min(len(members), int(limit))], nil
}

func (s *state) Count(group string) (uint32, error) {
	s.Lock()
	defer s.Unlock()
	return uint32(len(s.membersOf(group))), nil
}

func (s *state) Current() gateway.Invocation {
	s.Lock()
	defer s.Unlock()
	current := gateway.Invocation{
		RequestID:   fmt.Sprintf("request-%04d", s.events),
		API:         "api",
		Stage:       "stage",
		RequestedAt: first + s.events,
	}
	if s.isMessage {
		current.MessageID = fmt.Sprintf("message-%04d", s.events)
	}
	return current
}

func (s *state) IsDatagram() bool {
	s.Lock()
	defer s.Unlock()
	return s.isDatagram
}

func (s *state) Principal() string { return s.principal }

func (s *state) Authorizer() map[string]any {
	s.Lock()
	defer s.Unlock()
	if renewed := s.connections[s.current].renewed; renewed != nil {
		return maps.Clone(renewed)
	}
	return maps.Clone(s.authorizer)
}

func (s *state) Renew(expiresAt int64, values map[string]any) error {
	s.Lock()
	defer s.Unlock()
	connection, err := s.find(s.current)
	if err != nil {
		return err
	}
	if !s.isMessage || s.principal == "" {
		return lockgate.ErrDenied
	}
	if expiresAt >= gateway.TimesEnd {
		return gateway.Invalid("the time until which it holds is not below 2^53")
	}
	if _, err := checked(lockgate.Identity{Principal: s.principal, Values: values}); errors.Is(err, lockgate.ErrTooLarge) {
		return lockgate.ErrTooLarge
	} else if err != nil {
		return gateway.Invalid(err.Error())
	}
	if expiresAt <= first+s.events {
		return gateway.Invalid("the time until which it holds has passed")
	}
	if connection.closing != nil {
		return lockgate.ErrGone
	}
	connection.expiresAt = time.UnixMilli(expiresAt)
	if values != nil {
		connection.renewed = values
	}
	return nil
}

func (s *state) Variables() []gateway.Field { return sorted(s.variables) }

func check(message lockgate.Message) error {
	if !message.Binary && !utf8.Valid(message.Data) {
		return gateway.Invalid("the text message is not UTF-8")
	}
	return nil
}

func sorted(values map[string]string) lockgate.Fields {
	var fields lockgate.Fields
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fields = append(fields, lockgate.Field{Name: name, Value: values[name]})
	}
	return fields
}
