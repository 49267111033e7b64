package inbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CodeUndecodable is the code of a message that is no event, or whose payload is not the JSON of its handler's type.
const CodeUndecodable = "undecodable"

// On makes a handler of a function that takes the payload as a Go value:
//
//	Handlers: map[string]inbox.TxHandler{"orders.placed": inbox.On(placed)}
//
// The payload is decoded by encoding/json, in the lane, for each run. One that does not fit T is permanent (CodeUndecodable): no attempt would mend
// it. Members that T does not know are left to newer consumers; whether those that it knows are there, and make sense, is for the function to
// say, with Permanent.
func On[T any](apply func(ctx context.Context, tx pgx.Tx, m *Message, event T) error) TxHandler {
	return func(ctx context.Context, tx pgx.Tx, m *Message) error {
		var event T
		if err := json.Unmarshal(m.Payload, &event); err != nil {
			return Permanent(fmt.Errorf("decode the payload of %s as %T: %w", m.Type, event, err), CodeUndecodable)
		}
		return apply(ctx, tx, m, event)
	}
}
