package inbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Permanent marks err as one that no further attempt can mend: the message goes to the dead-letter topic at once, with code as its
// machine-readable reason (a short constant such as "unknown_user"). Permanent(nil, code) is nil.
func Permanent(err error, code string) error {
	if err == nil {
		return nil
	}
	return &classified{err: err, class: classPermanent, code: code}
}

// Transient marks err as a failed attempt whatever it wraps, so that it is retried and, after the last attempt, buried. An unmarked error
// is that already, unless it says by its SQLSTATE or its kind that the data is wrong (permanent) or that something cannot be reached (held
// until it can). Transient(nil) is nil.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return &classified{err: err, class: classTransient}
}

// Systemic marks err as the fault of something that the message is not to blame for and that others would meet as well, such as a service that
// answers "come back later": the message is held, with growing pauses, for as long as that lasts, and no attempt is counted. Its key waits, others
// go on. Systemic(nil) is nil.
func Systemic(err error) error {
	if err == nil {
		return nil
	}
	return &classified{err: err, class: classSystemic}
}

// IsPermanent reports whether a handler that returns err buries its message at once: it was made by Permanent, or carries the SQLSTATE of
// data that the database will never take.
func IsPermanent(err error) bool { return err != nil && classify(err) == classPermanent }

// IsTransient reports whether a handler that returns err has failed an attempt that is worth repeating.
func IsTransient(err error) bool { return err != nil && classify(err) == classTransient }

// class is what an error means for the message that met it.
type class uint8

const (
	classTransient class = iota // an attempt failed; try again, then bury
	classPermanent              // bury at once
	classConflict               // the database chose a victim; run the transaction again at once
	classSystemic               // something is out that the message is not to blame for; hold
)

func (c class) String() string {
	return [...]string{"transient", "permanent", "conflict", "systemic"}[c]
}

type classified struct {
	err   error
	class class
	code  string
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// panicError is a handler's panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.value) }

// classify finds the class of an error. A mark of Permanent, Transient or Systemic wins over what it wraps.
func classify(err error) class {
	if marked, ok := errors.AsType[*classified](err); ok {
		return marked.class
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifySQLState(pgErr.Code)
	}
	if unreachable(err) {
		return classSystemic
	}
	return classTransient
}

// classifySQLState is the one table from SQLSTATE to class; https://www.postgresql.org/docs/current/errcodes-appendix.html lists the codes.
func classifySQLState(code string) class {
	switch code {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock timeout
		return classConflict
	case "25006": // read-only transaction: after a failover we are still connected to what is now the standby
		return classSystemic
	case "23502", "23505", "23514": // not null, unique, check. 23503 stays transient: the parent may arrive on another topic
		return classPermanent
	}
	switch {
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P0"), strings.HasPrefix(code, "58"):
		return classSystemic // connection, resources, shutdown, input/output
	case strings.HasPrefix(code, "42"):
		return classSystemic // a table or column that is missing or not permitted: this binary and the schema are of different releases
	case strings.HasPrefix(code, "22"):
		return classPermanent // data exception
	}
	return classTransient
}

// isSkew reports an error that says that schema and binary do not fit. Other statements may well succeed, so it is no outage.
func isSkew(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pgErr.Code, "42")
}

// unreachable reports that no connection could be made. An error on a connection that existed is not enough: a handler's HTTP call that
// times out may well be the message's fault.
func unreachable(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	_, dns := errors.AsType[*net.DNSError](err)
	return dns || errors.Is(err, syscall.ECONNREFUSED)
}

// code is the machine-readable reason of a dead letter.
func code(err error) string {
	if marked, ok := errors.AsType[*classified](err); ok && marked.code != "" {
		return marked.code
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	if _, ok := errors.AsType[*panicError](err); ok {
		return "panic"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "error"
}
