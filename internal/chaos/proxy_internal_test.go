package chaos

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

const patience = 10 * time.Second

// echo is a server that answers each line with the same line, and says what it was sent.
func echo(t *testing.T) (addr string, sent <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	lines := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					lines <- in.Text()
					if _, err := conn.Write([]byte(in.Text() + "\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), lines
}

// client is a connection through the proxy.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, p *proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(line + "\n")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) wantAnswer(line string) {
	c.t.Helper()
	if got, err := c.in.ReadString('\n'); err != nil || got != line+"\n" {
		c.t.Errorf("answer = %q, %v, want %q", got, err, line)
	}
}

func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.in)
	var late net.Error
	if len(rest) > 0 || errors.As(err, &late) && late.Timeout() {
		c.t.Errorf("connection gave %q and %v, want its end", rest, err)
	}
}

func wantSent(t *testing.T, sent <-chan string, want string) {
	t.Helper()
	select {
	case got := <-sent:
		if got != want {
			t.Errorf("server was sent %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Errorf("server was not sent %q within %v", want, patience)
	}
}

func proxied(t *testing.T) (*proxy, <-chan string) {
	t.Helper()
	server, sent := echo(t)
	p, err := newProxy(t.Context(), "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p, sent
}

func TestAProxyPassesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	p, sent := proxied(t)
	c := dial(t, p)
	c.say("one")
	c.wantAnswer("one")
	wantSent(t, sent, "one")
}

func TestAProxyCutsAndLetsNewConnectionsIn(t *testing.T) {
	t.Parallel()
	p, _ := proxied(t)
	c := dial(t, p)
	c.say("one")
	c.wantAnswer("one")
	p.cut(func() bool { return false })
	c.say("two")
	c.wantAnswer("two")
	p.cut(nil)
	c.wantEnd()
	c = dial(t, p)
	c.say("three")
	c.wantAnswer("three")
}

func TestAProxyHoldsAndGoesOn(t *testing.T) {
	t.Parallel()
	p, sent := proxied(t)
	c := dial(t, p)
	p.down.set(hold)
	c.say("one")
	wantSent(t, sent, "one")
	p.up.set(hold)
	c.say("two")
	p.down.set(open)
	c.wantAnswer("one")
	select {
	case got := <-sent:
		t.Errorf("server was sent %q, which is held", got)
	default:
	}
	p.up.set(open)
	c.wantAnswer("two")
}

func TestAProxyLosesRequestsOrAnswers(t *testing.T) {
	t.Parallel()
	p, sent := proxied(t)
	c := dial(t, p)
	p.down.set(lose)
	c.say("one")
	wantSent(t, sent, "one") // and its answer is lost
	p.cut(nil)
	p.down.set(open)
	c.wantEnd()
	c = dial(t, p)
	c.say("begin")
	c.wantAnswer("begin")
	wantSent(t, sent, "begin")
	p.up.set(lose)
	c.say("two")
	p.cut(nil)
	p.up.set(open)
	c.wantEnd()
	c = dial(t, p)
	c.say("three")
	c.wantAnswer("three")
	wantSent(t, sent, "three") // not two
}

func TestAProxyRefusesWhileItIsTold(t *testing.T) {
	t.Parallel()
	p, _ := proxied(t)
	before := dial(t, p)
	before.say("one")
	before.wantAnswer("one")
	p.refuse()
	before.wantEnd()
	dial(t, p).wantEnd()
	p.admit()
	after := dial(t, p)
	after.say("two")
	after.wantAnswer("two")
}
