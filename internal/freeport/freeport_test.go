package freeport

import (
	"net"
	"testing"
)

func TestAPortIsGivenOnce(t *testing.T) {
	seen := make(map[string]bool)
	for range 300 {
		a, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		if seen[a] {
			t.Fatalf("%s is given twice", a)
		}
		seen[a] = true
	}
}

func TestClaimsAreRefused(t *testing.T) {
	row, err := Row(3)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(row)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := take(port+i, 1); err == nil {
			t.Errorf("port %d of a row of three was given again", i)
		}
	}
	held, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", held)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// As another process sees it: the claim is not in its memory, the lock is in the file.
	taken.Lock()
	mine := taken.files
	taken.files = nil
	taken.Unlock()
	defer func() { taken.files = mine }()
	if err := take(port, 1); err == nil {
		t.Error("a port that another process holds was given")
	}
}
