// Probe does what its client says, and tells what it sees: a text message is a step, {"do": "count", "group": "lobby"}, and
// the answer is its result as JSON. A binary message comes back.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	lockgate "github.com/lockgate/lockgate/guest-sdk/go"
	"github.com/lockgate/lockgate/guest-sdk/go/connections"
	"github.com/lockgate/lockgate/guest-sdk/go/groups"
)

func main() {
	slog.SetLogLoggerLevel(slog.LevelDebug)
	lockgate.Handle(probe{})
	lockgate.Authorize(authorize)
}

type probe struct{ lockgate.Defaults }

// What the environment had before main.
var early = os.Getenv("EARLY")

type step struct {
	Do, ID, Group, Text string
	Milliseconds, Count int
}

// Connect refuses, panics, or sends the event.
func (probe) Connect(ctx context.Context, event lockgate.Event, handshake lockgate.Handshake) (lockgate.Acceptance, error) {
	var acceptance lockgate.Acceptance
	if status, ok := handshake.QueryParameter("refuse"); ok {
		message, _ := handshake.QueryParameter("message")
		number, err := strconv.Atoi(status)
		if err != nil {
			return acceptance, fmt.Errorf("no status: %w", err)
		}
		return acceptance, lockgate.Refuse(number, message)
	}
	if _, ok := handshake.QueryParameter("panic"); ok {
		panic("no connect")
	}
	told, err := lockgate.JSON(map[string]any{"event": event})
	if err != nil {
		return acceptance, err
	}
	return acceptance, connections.Send(ctx, event.ConnectionID, told)
}

func (probe) Message(ctx context.Context, event lockgate.Event, message lockgate.Message) (*lockgate.Message, error) {
	if message.Binary {
		return &message, nil
	}
	step := step{ID: event.ConnectionID}
	if err := json.Unmarshal(message.Data, &step); err != nil {
		return nil, err
	}
	switch step.Do {
	case "fail":
		return nil, errors.New(step.Text)
	case "broken text":
		return lockgate.Text("\xff"), nil
	}
	result, err := do(ctx, step)
	if err != nil {
		return lockgate.JSON(map[string]any{"error": err.Error(), "invalid": errors.Is(err, lockgate.ErrInvalid)})
	}
	return lockgate.JSON(result)
}

func do(ctx context.Context, step step) (any, error) {
	switch step.Do {
	case "environment":
		return []string{os.Getenv("LATE"), early}, nil
	case "send broken text":
		return nil, connections.Send(ctx, step.ID, lockgate.Text("\xff"))
	case "send binary":
		return nil, connections.Send(ctx, step.ID, lockgate.Binary(bytes.Repeat([]byte{0xff}, step.Count)))
	case "who":
		return map[string]any{"principal": lockgate.Principal(ctx), "values": lockgate.Authorizer(ctx)}, nil
	case "renew":
		var values map[string]any
		if step.Text != "" {
			values = map[string]any{"plan": step.Text, "seats": step.Count, "yes": true}
		}
		return nil, lockgate.Renew(ctx, time.Now().Add(time.Duration(step.Milliseconds)*time.Millisecond), values)
	case "count":
		return groups.Count(ctx, step.Group)
	case "print":
		print(step.Text)
		return nil, nil
	default:
		return bear(ctx, step)
	}
}

func print(text string) {
	fmt.Println("fmt " + text)
	fmt.Fprint(os.Stderr, "stderr "+text+"\n")
	log.Print("log " + text)
	slog.Debug("debug " + text)
	slog.Info("info "+text, "key", "a value")
	slog.Warn("warn " + text + "\nsecond line")
	slog.Error("error "+text, slog.Group("group", "number", 7))
	fmt.Print("unfinished " + text)
}

// bear takes what hurts.
func bear(ctx context.Context, step step) (any, error) {
	switch step.Do {
	case "panic":
		panic("as told: " + step.Text)
	case "nil":
		var nothing *struct{ field int }
		return nothing.field, nil
	case "panic in a goroutine":
		go panic("as told: " + step.Text)
		time.Sleep(time.Millisecond)
		return nil, nil
	case "wait for ever":
		select {}
	case "spin":
		for {
		}
	case "deadline":
		began := time.Now()
		deadline, ok := ctx.Deadline()
		child, end := context.WithTimeout(ctx, time.Duration(step.Milliseconds)*time.Millisecond)
		defer end()
		<-child.Done()
		return map[string]any{
			"left": deadline.Sub(began).Milliseconds(), "ok": ok, "waited": time.Since(began).Milliseconds(),
			"child": text(child.Err()), "own": text(ctx.Err()),
		}, nil
	case "leave behind":
		// The goroutine goes on in a later event, whose context is not its own.
		go func() {
			<-ctx.Done()
			slog.Info("left behind", "error", connections.Send(ctx, step.ID, lockgate.Text("too late")))
		}()
		return nil, nil
	case "goroutines":
		return goroutines(ctx, step)
	case "memory":
		calls++
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return map[string]any{"calls": calls, "bytes": stats.Sys}, nil
	case "garbage":
		return garbage(step.Count), nil
	default:
		return nil, fmt.Errorf("no such step: %s", step.Do)
	}
}

// goroutines calls from many goroutines at a time, which make garbage, and counts the answers that are not as they should be.
func goroutines(ctx context.Context, step step) (any, error) {
	var wait sync.WaitGroup
	var lock sync.Mutex
	wrong := 0
	for i := range step.Count {
		wait.Add(1)
		go func() {
			defer wait.Done()
			name := fmt.Sprintf("name-%d", i)
			value := string(bytes.Repeat([]byte{'a' + byte(i%26)}, 10))
			err := connections.SetAttribute(ctx, step.ID, name, value)
			time.Sleep(time.Duration(i%3) * time.Millisecond)
			for range 20 {
				got, set, gotErr := connections.Attribute(ctx, step.ID, name)
				_ = make([]byte, 64<<10)
				fields, fieldsErr := connections.Attributes(ctx, step.ID)
				listed, _ := fields.Get(name)
				if err != nil || gotErr != nil || fieldsErr != nil || !set || got != value || listed != value {
					lock.Lock()
					wrong++
					lock.Unlock()
				}
			}
		}()
	}
	wait.Wait()
	return wrong, nil
}

// calls counts those of this instance.
var calls int

// live is a large heap, in the pieces that a garbage collector has to look at.
var live [][]*[64]byte

// waste is what garbage drops: a local variable would be no garbage.
var waste []byte

// garbage makes megabytes of it beside 40 MB that stay, and returns a text that was long alive.
func garbage(megabytes int) any {
	if live == nil {
		for range 40 {
			piece := make([]*[64]byte, 1<<14)
			for i := range piece {
				piece[i] = &[64]byte{byte(i)}
			}
			live = append(live, piece)
		}
	}
	for range megabytes << 4 {
		waste = make([]byte, 64<<10)
	}
	for _, piece := range live {
		for i, value := range piece {
			if value[0] != byte(i) {
				return "the heap is broken"
			}
		}
	}
	return "ok"
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
