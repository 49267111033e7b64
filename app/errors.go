package app

import "errors"

var (
	// ErrInvalidEmail is wrapped by the error for an address that breaks a rule.
	ErrInvalidEmail = errors.New("invalid email")
	// ErrInvalidPassword is wrapped by the error for a password that breaks a rule.
	ErrInvalidPassword = errors.New("invalid password")
	// ErrNotFound is wrapped by the error for an id that nothing has.
	ErrNotFound = errors.New("not found")
	// ErrBusy is wrapped by the error for work that was refused because as much as is allowed is waiting already. Trying
	// again after a second or two is right.
	ErrBusy = errors.New("too much work is waiting")
	// ErrUnavailable is wrapped by the error for a store that does not answer now. Trying again later is right.
	ErrUnavailable = errors.New("unavailable")
)

// FieldError says which field of a registration breaks a rule, and which rule. It wraps the field's sentinel.
type FieldError struct {
	Field  string // name in the API: email or password
	Reason string // completes a sentence that begins with the field; never contains the value
	kind   error
}

// Error returns the sentence.
func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

// Unwrap returns ErrInvalidEmail or ErrInvalidPassword.
func (e *FieldError) Unwrap() error { return e.kind }

// FieldErrors returns every FieldError that err wraps, in order.
func FieldErrors(err error) []*FieldError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself, errors.As would stop at the first
	case nil:
		return nil
	case *FieldError:
		return []*FieldError{e}
	case interface{ Unwrap() []error }:
		var all []*FieldError
		for _, part := range e.Unwrap() {
			all = append(all, FieldErrors(part)...)
		}
		return all
	default:
		return FieldErrors(errors.Unwrap(err))
	}
}
