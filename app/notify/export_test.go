package notify

import "time"

// RecordFor changes how long one try to write an outcome down may take. Call it before Run.
func (w *Worker) RecordFor(d time.Duration) { w.recordTimeout = d }
