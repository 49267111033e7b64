package stack

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/postgres"
)

// State is what runs on a folder, and how it is reached. The addresses are those of the last Up; they are empty where there was none.
type State struct {
	Dir         string   `json:"dir"`
	Servers     []Server `json:"servers"`           // PostgreSQL, Kafka, Kafka Connect
	Started     []string `json:"started,omitempty"` // the names of those that this call of Up started
	Stopped     []string `json:"stopped,omitempty"` // the names of those that this call of Down stopped
	DatabaseURL string   `json:"database_url"`
	Brokers     []string `json:"brokers"`
	ConnectURL  string   `json:"connect_url"`
	Secrets     string   `json:"secrets"` // folder from which a connector's configuration may take values: ${file:SECRETS/db.properties:password}
}

// Server is one of the servers.
type Server struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Addr        string `json:"addr"`
	PID         int    `json:"pid,omitempty"`
	Running     bool   `json:"running"`
	Healthy     bool   `json:"healthy"`            // it serves its clients
	Problem     string `json:"problem,omitempty"`  // why it is not healthy, when another server runs
	HeapMiB     int    `json:"heap_mib,omitempty"` // limit of the heap of a JVM
	ResidentMiB int    `json:"resident_mib"`       // memory of the machine that it takes, with its children; 0 when it is not known
	Log         string `json:"log"`                // file
}

// Server returns the server of that name.
func (s State) Server(name string) Server {
	i := slices.IndexFunc(s.Servers, func(server Server) bool { return server.Name == name })
	if i < 0 {
		return Server{Name: name}
	}
	return s.Servers[i]
}

// Running reports whether any server runs.
func (s State) Running() bool {
	return slices.ContainsFunc(s.Servers, func(server Server) bool { return server.Running })
}

// Healthy reports whether all servers do their work.
func (s State) Healthy() bool {
	return len(s.Servers) > 0 && !slices.ContainsFunc(s.Servers, func(server Server) bool { return !server.Healthy })
}

// Read looks at what runs on the folder, whoever started it, and asks each server whether it does its work. It changes nothing, and it does not wait for
// an Up or a Down that works on the folder: it may see them halfway.
func Read(ctx context.Context, dir string) (State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return State{}, err
	}
	n, err := readNotes(dir)
	if err != nil {
		return State{}, err
	}
	state := State{Dir: dir, Servers: make([]Server, len(names)), Secrets: filepath.Join(connectDir(dir), "secrets")}
	var asked sync.WaitGroup
	for i, name := range names {
		asked.Go(func() { state.Servers[i] = look(ctx, dir, name, n[name]) })
	}
	asked.Wait()
	if err := context.Cause(ctx); err != nil {
		return State{}, err
	}
	return state.complete(), nil
}

// look asks one server.
func look(ctx context.Context, dir, name string, n note) Server {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := Server{Name: name, Version: n.Version, Addr: n.Addr, HeapMiB: n.HeapMiB, Log: logOf(dir, name)}
	p, err := attach(ctx, dir, name)
	if errors.Is(err, child.ErrNotRunning) {
		return s
	}
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Running, s.PID, s.Addr, s.ResidentMiB = true, p.PID(), p.Addr(), residentMiB(p.PID())
	if err := p.Check(ctx); err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Healthy = true
	return s
}

// complete derives what follows from the servers.
func (s State) complete() State {
	if s.Running() {
		for i := range s.Servers {
			if !s.Servers[i].Running {
				s.Servers[i].Problem = cmp.Or(s.Servers[i].Problem, "it is not running")
			}
		}
	}
	if addr := s.Server(PostgreSQL).Addr; addr != "" {
		s.DatabaseURL = postgres.URL(addr, Database)
	}
	if addr := s.Server(Kafka).Addr; addr != "" {
		s.Brokers = []string{addr}
	}
	if addr := s.Server(Connect).Addr; addr != "" {
		s.ConnectURL = "http://" + addr
	}
	return s
}
