// Package jvm runs the Java servers of the real stack as child processes, within limits of memory and log size.
//
// It knows what the servers have in common, a class path, a properties file and a log; which settings they need and when they are ready is known to the
// packages kafka and connect. The invariant: everything a server writes, its log and its crash reports included, lies in its folder.
package jvm

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/maven"
)

//go:embed log4j2.properties
var logging []byte

// stopPatience is how long a server may take to stop when asked; a broker and a worker take about a second.
const stopPatience = 15 * time.Second

// Server says what Start starts.
type Server struct {
	Name       string            // for errors, and for the names of its files in Dir
	Main       string            // class
	Properties map[string]string // written to Dir/NAME.properties, which is the program's one argument
	Artifacts  maven.Artifacts
	Dir        string    // made when missing
	Addr       string    // where it will listen
	HeapMiB    int       // the heap's limit; the process takes up to some 200 MiB more
	Options    []string  // further options of the JVM, after ours: the last one of a kind wins
	Log        io.Writer // the server's errors; default discarded; all of its log is in Dir/NAME.log
	Detach     bool      // it outlives this process; its errors go to Dir/NAME.out
}

// Start starts the server and does not wait until it is ready. It stops a server that an earlier process left behind in the folder first, and fails when
// another program listens on the address.
func Start(ctx context.Context, s Server) (*child.Process, error) {
	file := filepath.Join(s.Dir, strings.ToLower(s.Name))
	if err := child.Evict(ctx, Record(s.Dir)); err != nil {
		return nil, err
	}
	if err := free(ctx, s.Addr); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	args := append(options(s.HeapMiB), "-Dwalpost.log="+file+".log", "-Dlog4j2.configurationFile="+file+".log4j2.properties")
	args = append(args, s.Options...)
	args = append(args, "-cp", classPath(s.Artifacts), s.Main, file+".properties")
	err := errors.Join(
		os.MkdirAll(s.Dir, 0o755),
		os.WriteFile(file+".log4j2.properties", logging, 0o644),
		WriteProperties(file+".properties", s.Properties),
	)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return child.Start(ctx, child.Command{
		Name: s.Name, Path: s.Artifacts.Java, Args: args, Dir: s.Dir, Addr: s.Addr, Record: Record(s.Dir),
		Stop: []child.Step{{Signal: syscall.SIGTERM, Patience: stopPatience}},
		Log:  s.Log, Detach: s.Detach, Output: file + ".out",
	})
}

// Record is the file that names the server running in the folder.
func Record(dir string) string { return filepath.Join(dir, "process.json") }

// Run runs a class to its end in the folder. Its error holds what the program printed.
func Run(ctx context.Context, a maven.Artifacts, dir, main string, args ...string) error {
	cmd := exec.CommandContext(ctx, a.Java, append(append(options(256), "-cp", classPath(a), main), args...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through ctx
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", main, errors.Join(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	return nil
}

// options of a JVM that starts fast and stays small: measured on two cores, a broker or a worker takes 4 to 5 s of processor time to start with them and
// 8 to 9 s without. What the compiler saves at the start it loses in long runs: a benchmark wants -XX:TieredStopAtLevel=4 -XX:-UseSerialGC -XX:+UseG1GC.
// An archive of loaded classes would halve the start again, to 2.5 s, but takes 5 s and 50 MB to make for each server.
func options(heapMiB int) []string {
	return []string{
		fmt.Sprintf("-Xmx%dm", heapMiB), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-XX:+ExitOnOutOfMemoryError", // a server that lost a thread would be neither up nor down
		"-XX:-UsePerfData",            // keeps a file in the system's temporary folder
		"-Djava.awt.headless=true",
	}
}

func classPath(a maven.Artifacts) string {
	return strings.Join(a.ClassPath, string(filepath.ListSeparator))
}

// free fails when somebody listens on the address. The server would notice too, but an answer to our question whether it is ready might come from that
// other program first.
func free(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// Place checks where a server is to run and returns its folder as an absolute path. The address has to be a port of this machine alone: neither server
// asks who is there. The folder's name must not part a list in the server's settings.
func Place(dir, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() || port == "0" || port == "" {
		return "", fmt.Errorf("address %s: want a port of 127.0.0.1", addr)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if strings.Contains(dir, ",") {
		return "", fmt.Errorf("folder %s: choose one without a comma in its name", dir)
	}
	return dir, nil
}
