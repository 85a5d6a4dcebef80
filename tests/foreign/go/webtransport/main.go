// Program webtransport is webtransport-go as a client of a gateway: `echoes URL` and `lives URL` of one that echoes,
// `protocol URL PROTOCOL` of one that chooses this one of a and b, `refused URL STATUS`.
package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/webtransport-go"
)

const patience = 60 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tests := map[string]func(context.Context, string) error{
		"echoes": echoes, "lives": lives, "protocol": protocol, "refused": refused,
	}
	if err := tests[os.Args[1]](ctx, os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(ctx context.Context, url string, header http.Header) (*http.Response, *webtransport.Session, error) {
	dialer := webtransport.Dialer{
		TLSClientConfig:      &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}},
		ApplicationProtocols: []string{"a", "b"},
	}
	return dialer.Dial(ctx, url, header)
}

func open(ctx context.Context, url string) (*webtransport.Session, *webtransport.Stream, error) {
	_, session, err := dial(ctx, url, nil)
	if err != nil {
		return nil, nil, err
	}
	stream, err := session.OpenStreamSync(ctx)
	return session, stream, err
}

// send writes a message: a byte with the bit of binary ones and the length, which goes on behind it.
func send(stream io.Writer, message string, binaryBit byte) error {
	var head []byte
	switch length := len(message); {
	case length < 126:
		head = []byte{binaryBit | byte(length)}
	case length < 1<<16:
		head = binary.BigEndian.AppendUint16([]byte{binaryBit | 126}, uint16(length))
	default:
		head = binary.BigEndian.AppendUint64([]byte{binaryBit | 127}, uint64(length))
	}
	_, err := stream.Write(append(head, message...))
	return err
}

func receive(stream io.Reader) (string, byte, error) {
	head := make([]byte, 9)
	if _, err := io.ReadFull(stream, head[:1]); err != nil {
		return "", 0, err
	}
	length, more := uint64(head[0]&0x7f), 0
	switch length {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if _, err := io.ReadFull(stream, head[1:1+more]); err != nil {
		return "", 0, err
	}
	switch more {
	case 2:
		length = uint64(binary.BigEndian.Uint16(head[1:]))
	case 8:
		length = binary.BigEndian.Uint64(head[1:])
	}
	payload := make([]byte, length)
	_, err := io.ReadFull(stream, payload)
	return string(payload), head[0] & 0x80, err
}

func echo(stream io.ReadWriter, message string, binaryBit byte) error {
	if err := send(stream, message, binaryBit); err != nil {
		return err
	}
	came, bit, err := receive(stream)
	if err == nil && (came != message || bit != binaryBit) {
		err = fmt.Errorf("%d bytes came in place of %d", len(came), len(message))
	}
	return err
}

// echoes sends messages of every length and closes; then one that is no text, which the gateway closes for.
func echoes(ctx context.Context, url string) error {
	session, stream, err := open(ctx, url)
	if err != nil {
		return err
	}
	for _, message := range []string{"", "hello", "κόσμε 🦀", strings.Repeat("x", 300), strings.Repeat("x", 100_000)} {
		for _, bit := range []byte{0, 0x80} {
			if err := echo(stream, message, bit); err != nil {
				return err
			}
		}
	}
	if err := session.CloseWithError(4001, "enough"); err != nil {
		return err
	}
	session, stream, err = open(ctx, url)
	if err != nil {
		return err
	}
	if err := send(stream, "\xff", 0); err != nil {
		return err
	}
	return closed(ctx, session)
}

// closed prints the code and the reason with which the gateway closes.
func closed(ctx context.Context, session *webtransport.Session) error {
	_, err := session.AcceptStream(ctx)
	var closed *webtransport.SessionError
	if !errors.As(err, &closed) || !closed.Remote {
		return fmt.Errorf("no close: %w", err)
	}
	fmt.Println("closed", closed.ErrorCode, closed.Message)
	return nil
}

// lives has echoes until the gateway closes.
func lives(ctx context.Context, url string) error {
	session, stream, err := open(ctx, url)
	if err != nil {
		return err
	}
	for turn := 0; ; turn++ {
		if err := echo(stream, strconv.Itoa(turn), 0); err != nil {
			return closed(ctx, session)
		}
		if turn == 0 {
			fmt.Println("open")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func protocol(ctx context.Context, url string) error {
	_, session, err := dial(ctx, url, nil)
	if err != nil {
		return err
	}
	if chosen := session.SessionState().ApplicationProtocol; chosen != os.Args[3] {
		return fmt.Errorf("%q was chosen", chosen)
	}
	return session.CloseWithError(0, "")
}

func refused(ctx context.Context, url string) error {
	answer, _, err := dial(ctx, url, http.Header{"Origin": {"https://evil.example"}})
	if err == nil || answer == nil || strconv.Itoa(answer.StatusCode) != os.Args[3] {
		return fmt.Errorf("not refused: %v, %w", answer, err)
	}
	return nil
}
