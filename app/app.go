// Package app is the reference application: a person registers and is sent a mail.
//
// It holds the rules and the contracts they need, no SQL, no HTTP and no SMTP: those are its adapters, one folder each, which
// know this package and never each other. Its invariants: nothing a caller can see (answer, error, work done) tells whether an
// address already has an account, and a user, its notification and the event that announces them exist together or not at all.
package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Store keeps users and notifications. Its methods may be called concurrently; their errors wrap ErrUnavailable when the
// same call may succeed later.
type Store interface {
	// Register records the notification and the event of a registration and, when its address is new, the user, in one
	// transaction, and does so with the same statements for a new and a known address. The kind of the notification follows
	// from which it was.
	Register(ctx context.Context, r Registration) error
	// Notification returns the notification with this id, or an error that wraps ErrNotFound.
	Notification(ctx context.Context, id NotificationID) (Notification, error)
}

// Config holds what an operator may set about a Service. The zero value is ready.
type Config struct {
	// HashConcurrency is how many passwords are hashed at the same time; each takes 19 MiB of memory and one core for about
	// 35 ms. Default: the number of cores Go may use.
	HashConcurrency int
	// HashQueue is how many registrations may wait for their turn to be hashed; the next one gets ErrBusy. Default: 64.
	HashQueue int
}

// Service registers users and shows notifications. It is made by New and safe for concurrent use.
type Service struct {
	store  Store
	hasher *hasher
}

// New returns a Service that keeps its data in store. It refuses negative numbers in cfg.
func New(store Store, cfg Config) (*Service, error) {
	h, err := newHasher(cfg)
	if err != nil {
		return nil, err
	}
	return &Service{store: store, hasher: h}, nil
}

// Register checks the address and the password and records the registration. The id it returns is new at every call, known
// address or not. Its error wraps ErrInvalidEmail or ErrInvalidPassword or both (FieldErrors takes them apart), ErrBusy,
// ErrUnavailable, or the error of ctx.
func (s *Service) Register(ctx context.Context, email, password string) (NotificationID, error) {
	addr, err := ParseEmail(email)
	if err := errors.Join(err, CheckPassword(password)); err != nil {
		return NotificationID{}, err
	}
	// The password is hashed before anything is known about the address: a known one must not answer faster.
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return NotificationID{}, fmt.Errorf("hash the password: %w", err)
	}
	r, err := newRegistration(addr, hash)
	if err != nil {
		return NotificationID{}, err
	}
	if err := s.store.Register(ctx, r); err != nil {
		return NotificationID{}, fmt.Errorf("record the registration: %w", err)
	}
	return r.NotificationID, nil
}

// Notification returns the notification with this id. Its error wraps ErrNotFound, ErrUnavailable, or the error of ctx.
func (s *Service) Notification(ctx context.Context, id NotificationID) (Notification, error) {
	n, err := s.store.Notification(ctx, id)
	if err != nil {
		return Notification{}, fmt.Errorf("read the notification: %w", err)
	}
	return n, nil
}

func newRegistration(addr Email, hash string) (Registration, error) {
	user, err := uuid.NewV7()
	if err != nil {
		return Registration{}, fmt.Errorf("make a user id: %w", err)
	}
	// Whoever has the id may read the notification, so it is random as a whole: a UUIDv7 gives part of itself away.
	notification, err := uuid.NewRandom()
	if err != nil {
		return Registration{}, fmt.Errorf("make a notification id: %w", err)
	}
	return Registration{
		UserID:         UserID{user},
		NotificationID: NotificationID{notification},
		Email:          addr,
		PasswordHash:   hash,
	}, nil
}
