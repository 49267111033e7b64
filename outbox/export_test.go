package outbox

import "time"

// NewIDAt is NewID at a given time.
func NewIDAt(t time.Time) EventID { return newID(tick(t)) }
