package app

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/walpost/walpost/outbox"
)

const (
	// UserRegistered is the type of the event of a registration and, by the relay's default, its topic.
	UserRegistered = "notif.user.registration"
	// UserAggregate is the aggregate type of a user; the aggregate id is the user's id, so that a user's events keep order.
	UserAggregate = "user"
)

// UserID names a user. A UUIDv7: rows of the same time lie together.
type UserID struct{ uuid.UUID }

// Registration is what a Store records. Its ids are new; UserID is used only when the address is.
type Registration struct {
	UserID         UserID
	NotificationID NotificationID
	Email          Email
	PasswordHash   string // PHC string
}

// Announcement is the payload of the event UserRegistered: which mail goes to whom, for which notification.
type Announcement struct {
	NotificationID NotificationID `json:"notification_id"`
	UserID         UserID         `json:"user_id"`
	Kind           Kind           `json:"kind"`
	Email          Email          `json:"email"`
}

// Event returns the outbox event that carries the announcement.
func (a Announcement) Event() (outbox.Event, error) {
	payload, err := json.Marshal(a)
	if err != nil {
		return outbox.Event{}, fmt.Errorf("encode the announcement: %w", err)
	}
	return outbox.Event{
		AggregateType: UserAggregate,
		AggregateID:   a.UserID.String(),
		Type:          UserRegistered,
		Payload:       payload,
	}, nil
}
