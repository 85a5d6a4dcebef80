package lockgate

import (
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"
)

// The gateway takes the level of a printed line from the number that it begins with (sd-daemon(3)).
const (
	levelError = "<3>"
	levelWarn  = "<4>"
	levelInfo  = "<6>"
	levelDebug = "<7>"
)

func init() {
	log.SetFlags(0) // the gateway's log has the time
	log.SetOutput(levelled{})
}

// levelled is what packages log and log/slog write to: slog begins each line with its level.
type levelled struct{}

func (levelled) Write(line []byte) (int, error) {
	text := string(line)
	for _, level := range []struct{ word, prefix string }{
		{"ERROR", levelError}, {"WARN", levelWarn}, {"INFO", levelInfo}, {"DEBUG", levelDebug},
	} {
		rest, ok := strings.CutPrefix(text, level.word)
		if !ok {
			continue
		}
		// A level between two of these has the distance behind its word, as in INFO+2.
		if between, message, found := strings.Cut(rest, " "); found && (between == "" || between[0] == '+' || between[0] == '-') {
			printLines(level.prefix, message)
			return len(line), nil
		}
	}
	printLines(levelInfo, text)
	return len(line), nil
}

// printLines prints a text of one or more lines with a level.
func printLines(level, text string) {
	lines := level + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+level) + "\n"
	_, _ = os.Stderr.WriteString(lines)
}

// recovered makes a panic of the handler an error, and prints its stack.
func recovered(err *error) {
	reason := recover()
	if reason == nil {
		return
	}
	*err = fmt.Errorf("panic: %v", reason)
	printLines(levelError, (*err).Error()+"\n"+handlerStack(string(debug.Stack())))
}

// handlerStack returns the frames of the handler, a line each: those between the panic and this package's exports.
func handlerStack(stack string) string {
	lines := strings.Split(stack, "\n")
	var frames []string
	panicked := false
	// A frame has two lines: the function with its arguments, and its place.
	for i := 1; i+1 < len(lines); i += 2 {
		function, place := lines[i], strings.TrimSpace(lines[i+1])
		if strings.HasPrefix(function, "panic(") {
			frames, panicked = nil, true
			continue
		}
		if !panicked {
			continue
		}
		if strings.HasPrefix(function, "github.com/lockgate/lockgate/guest-sdk/go.") {
			break
		}
		function = function[:max(strings.LastIndexByte(function, '('), 0)]
		place, _, _ = strings.Cut(place, " ")
		frames = append(frames, "  at "+function+" ("+place+")")
	}
	return strings.Join(frames, "\n")
}
