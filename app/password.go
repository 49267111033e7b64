package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Lengths in characters, which are Unicode code points: NIST SP 800-63B-4, section 3.1.1.2, asks for 15 without a second
// factor and for 64 to be allowed. The upper bound caps the bytes too, at four a character; nothing is ever cut silently.
const (
	minPasswordChars = 15
	maxPasswordChars = 128
)

// Parameters of argon2id, the least that OWASP's password storage cheat sheet names: 35 ms and 19 MiB a hash.
const (
	argonMemoryKiB = 19456
	argonTime      = 2
	argonThreads   = 1
	argonSaltBytes = 16
	argonKeyBytes  = 32
)

const defaultHashQueue = 64

// CheckPassword returns a *FieldError that matches ErrInvalidPassword when s cannot be a password: 15 to 128 characters are asked for, of any kind.
func CheckPassword(s string) error {
	reason := ""
	switch chars := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		reason = "is not valid UTF-8"
	case chars < minPasswordChars:
		reason = fmt.Sprintf("has %d characters, the least is %d", chars, minPasswordChars)
	case chars > maxPasswordChars:
		reason = fmt.Sprintf("has %d characters, the most is %d", chars, maxPasswordChars)
	default:
		return nil
	}
	return &FieldError{Field: "password", Reason: reason, kind: ErrInvalidPassword}
}

// hasher turns passwords into PHC strings with a bound on the memory in use and on the number of those who wait.
type hasher struct {
	places chan struct{} // one for each caller inside, waiting or hashing; full: ErrBusy
	turns  chan struct{} // one for each caller that is hashing
}

func newHasher(cfg Config) (*hasher, error) {
	concurrency, queue := cfg.HashConcurrency, cfg.HashQueue
	if concurrency < 0 || queue < 0 {
		return nil, fmt.Errorf("hash concurrency %d and queue %d must not be negative", concurrency, queue)
	}
	if concurrency == 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	if queue == 0 {
		queue = defaultHashQueue
	}
	return &hasher{places: make(chan struct{}, concurrency+queue), turns: make(chan struct{}, concurrency)}, nil
}

// hash waits for its turn, at most as long as ctx lives, and returns the PHC string of the password under a new salt.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		return "", ErrBusy
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return "", err // whoever asked has left, in the queue or before it
	}
	var salt [argonSaltBytes]byte
	_, _ = rand.Read(salt[:]) // crypto/rand.Read never returns an error: it ends the program instead
	key := argon2.IDKey([]byte(password), salt[:], argonTime, argonMemoryKiB, argonThreads, argonKeyBytes)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, argonMemoryKiB, argonTime, argonThreads, b64(salt[:]), b64(key)), nil
}
