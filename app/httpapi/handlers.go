package httpapi

import (
	"context"
	"strings"
	"time"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/internal/generated/api_models"
)

// handlers is the generated server's way into the application.
type handlers struct {
	service    Service
	recipients *buckets
}

var _ api_models.StrictServerInterface = (*handlers)(nil)

// RegisterUser answers POST /api/v1/users.
func (h *handlers) RegisterUser(
	ctx context.Context, req api_models.RegisterUserRequestObject,
) (api_models.RegisterUserResponseObject, error) {
	if wait := h.recipientWait(req.Body.Email, req.Body.Password); wait > 0 {
		return nil, &requestError{kind: errTooMany, detail: "too many registrations for this address", retryAfter: wait}
	}
	id, err := h.service.Register(ctx, req.Body.Email, req.Body.Password)
	if err != nil {
		return nil, err
	}
	return api_models.RegisterUser202JSONResponse{
		Body:    api_models.Accepted{NotificationID: id.UUID},
		Headers: api_models.RegisterUser202ResponseHeaders{Location: "/api/v1/notifications/" + id.String()},
	}, nil
}

// recipientWait takes a token of the recipient's bucket for a request that would send a mail. One that breaks a rule sends none, and is left to the
// service, which names every fault of it: otherwise strangers could lock an owner out for nothing. Spellings of a mailbox share a bucket, since
// most mail servers fold their case.
func (h *handlers) recipientWait(email, password string) time.Duration {
	addr, err := app.ParseEmail(email)
	if err != nil || app.CheckPassword(password) != nil {
		return 0
	}
	return h.recipients.take(strings.ToLower(string(addr)))
}

// GetNotification answers GET /api/v1/notifications/{id}.
func (h *handlers) GetNotification(
	ctx context.Context, req api_models.GetNotificationRequestObject,
) (api_models.GetNotificationResponseObject, error) {
	n, err := h.service.Notification(ctx, app.NotificationID{UUID: req.ID})
	if err != nil {
		return nil, err
	}
	body := api_models.Notification{
		ID:        n.ID.UUID,
		State:     api_models.NotificationState(n.State),
		CreatedAt: n.CreatedAt.UTC(),
		SentAt:    timeOrNil(n.SentAt),
		FailedAt:  timeOrNil(n.FailedAt),
	}
	if n.Failure != "" {
		body.Failure = &n.Failure
	}
	return api_models.GetNotification200JSONResponse(body), nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
