package stack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
)

// The servers, by the names that State gives them, in the order in which they are started.
const (
	PostgreSQL = "PostgreSQL"
	Kafka      = "Kafka"
	Connect    = "Kafka Connect"
)

// names are those of all servers; they are stopped in the reverse order: Connect finds no end without its Kafka, nor a connector without its database.
var names = []string{PostgreSQL, Kafka, Connect}

// defaults are the addresses, the same as those of the settings of walpost's commands.
var defaults = map[string]string{PostgreSQL: "127.0.0.1:5433", Kafka: "127.0.0.1:9092", Connect: "127.0.0.1:8083"}

// Database is the database that Up makes.
const Database = "walpost"

// Config says what Up starts. Addresses and heaps that are not given are those of the earlier Up on the folder, then the defaults.
type Config struct {
	Dir   string // the stack's folder: data, logs, notes; made when missing; required
	Cache string // where the programs of Kafka and Debezium are kept; default walpost in the user's cache folder, which all projects share
	PGBin string // folder of PostgreSQL's programs; default searched for, and fetched into Dir/postgresql where there are none

	PostgresAddr   string // port of 127.0.0.1; default 127.0.0.1:5433
	KafkaAddr      string // loopback address and port; default 127.0.0.1:9092
	ControllerPort int    // Kafka's own, on 127.0.0.1; default the port of KafkaAddr plus one
	ConnectAddr    string // loopback address and port; default 127.0.0.1:8083

	KafkaHeapMiB   int      // limit of Kafka's heap; default 512
	ConnectHeapMiB int      // limit of Kafka Connect's heap; default 512
	JavaOptions    []string // further options of both JVMs, which win over ours; default none

	ConnectSettings map[string]string // further settings of Kafka Connect, which win over ours; default none
	Progress        io.Writer         // what goes on, line by line; default discarded
}

// withDefaults fills in what is not given, from the notes of an earlier Up first.
func (c Config) withDefaults(n notes) (Config, error) {
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return Config{}, err
	}
	c.PostgresAddr = cmp.Or(c.PostgresAddr, n[PostgreSQL].Addr, defaults[PostgreSQL])
	if c.KafkaAddr == "" {
		c.ControllerPort = cmp.Or(c.ControllerPort, n[Kafka].ControllerPort)
	}
	c.KafkaAddr = cmp.Or(c.KafkaAddr, n[Kafka].Addr, defaults[Kafka])
	c.ControllerPort = cmp.Or(c.ControllerPort, portOf(c.KafkaAddr)+1)
	c.ConnectAddr = cmp.Or(c.ConnectAddr, n[Connect].Addr, defaults[Connect])
	c.KafkaHeapMiB = cmp.Or(c.KafkaHeapMiB, n[Kafka].HeapMiB, 512)
	c.ConnectHeapMiB = cmp.Or(c.ConnectHeapMiB, n[Connect].HeapMiB, 512)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	c.Progress = &oneAtATime{out: c.Progress}
	return c, nil
}

// Validate reports an address that no server can have: one of other machines, no fixed port, or a port that two servers would share. Whoever starts the
// servers may be another process than the one that looks for them, so that a port which the system chooses is of no use.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("the stack has no folder")
	}
	c, err := c.withDefaults(nil)
	if err != nil {
		return err
	}
	ports := c.ports()
	for i, p := range ports {
		at, err := netip.ParseAddrPort(p.Addr)
		if err != nil || !at.Addr().IsLoopback() || at.Port() == 0 || p.Server == PostgreSQL && at.Addr() != netip.MustParseAddr("127.0.0.1") {
			return fmt.Errorf("%s cannot be at %s: want a port of this machine, like %s", p.Server, p.Addr, defaults[p.Server])
		}
		other := slices.IndexFunc(ports[:i], func(o Port) bool { return portOf(o.Addr) == portOf(p.Addr) })
		if other >= 0 {
			return fmt.Errorf("%s and %s cannot both have port %d: Kafka takes the port above its own as well", ports[other].Server, p.Server, at.Port())
		}
	}
	return nil
}

// Port is a port that a server listens on.
type Port struct {
	Server, Addr string
	Controller   bool // Kafka's own, beside the one for clients
}

// ports are all that the stack listens on: Kafka has a second one, on which its controller talks to itself.
func (c Config) ports() []Port {
	return []Port{
		{Server: PostgreSQL, Addr: c.PostgresAddr},
		{Server: Kafka, Addr: c.KafkaAddr},
		{Server: Kafka, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ControllerPort)), Controller: true},
		{Server: Connect, Addr: c.ConnectAddr},
	}
}

// portOf is the port of an address, 0 when it has none.
func portOf(addr string) int {
	_, text, _ := net.SplitHostPort(addr) // Validate says what is wrong with it
	port, _ := strconv.Atoi(text)
	return port
}

// oneAtATime makes a writer safe for concurrent use.
type oneAtATime struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

// Write implements io.Writer.
func (w *oneAtATime) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
