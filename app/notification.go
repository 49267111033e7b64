package app

import (
	"time"

	"github.com/google/uuid"
)

// NotificationID names a notification. It is random as a whole, because whoever has it may read the notification.
type NotificationID struct{ uuid.UUID }

// Kind says which mail a notification is about. It is never shown to whoever registered.
type Kind string

const (
	// KindWelcome is the mail to a new address.
	KindWelcome Kind = "welcome"
	// KindAlreadyRegistered is the mail to an address that has an account: somebody, perhaps its owner, registered it again.
	KindAlreadyRegistered Kind = "already_registered"
)

// Valid reports whether the kind is one of the above.
func (k Kind) Valid() bool { return k == KindWelcome || k == KindAlreadyRegistered }

// State says how far a notification has come. It moves from StatePending to one of the other two.
type State string

const (
	// StatePending means that the mail has not been sent yet.
	StatePending State = "PENDING"
	// StateSent means that the mail server has accepted the mail.
	StateSent State = "SENT"
	// StateFailed means that the mail was refused for good, or that every attempt failed.
	StateFailed State = "FAILED"
)

// Notification is what whoever registered may see. It holds nothing that differs between the kinds.
type Notification struct {
	ID        NotificationID
	State     State
	CreatedAt time.Time
	SentAt    time.Time // zero unless StateSent
	FailedAt  time.Time // zero unless StateFailed
	Failure   string    // why, in a few words; empty unless StateFailed
}
