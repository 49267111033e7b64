package record

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What the headers of a dead letter begin with: Kafka's own and ours. A letter that comes round again loses the old ones.
const (
	deadErrors = "__dlq.errors."
	deadOurs   = "x-dlq-"
)

// Headers of a dead letter, behind those of the original. The first six are those of Kafka's own dead letters (KIP-1191). All values are text; who has
// nothing to say leaves a header out.
const (
	HeaderDeadTopic             = deadErrors + "topic" // where the original was, or should have gone
	HeaderDeadPartition         = deadErrors + "partition"
	HeaderDeadOffset            = deadErrors + "offset"
	HeaderDeadGroup             = deadErrors + "group"
	HeaderDeadDeliveryCount     = deadErrors + "delivery.count"
	HeaderDeadMessage           = deadErrors + "message"
	HeaderDeadID                = deadOurs + "id"
	HeaderDeadCode              = deadOurs + "code"
	HeaderDeadClass             = deadOurs + "class"
	HeaderDeadFingerprint       = deadOurs + "fingerprint"
	HeaderDeadHandler           = deadOurs + "handler"
	HeaderDeadFirstFailedAt     = deadOurs + "first-failed-at"
	HeaderDeadFailedAt          = deadOurs + "failed-at"
	HeaderDeadOriginalTimestamp = deadOurs + "original-timestamp"
	HeaderDeadStack             = deadOurs + "stack"
	HeaderDeadTruncated         = deadOurs + "truncated" // what is missing because the topic would not take it, as in "stack,message"
)

// MaxDeadMessage is how many bytes of an error's text a dead letter carries.
const MaxDeadMessage = 1 << 10

// IsDeadHeader reports whether a header is one that dead letters add.
func IsDeadHeader(key string) bool {
	return strings.HasPrefix(key, deadErrors) || strings.HasPrefix(key, deadOurs)
}

// variable is what differs between messages that died of one cause: quoted parts, UUIDs, positions of the log, numbers.
var variable = regexp.MustCompile(`"[^"]*"|'[^']*'|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b|[0-9]+`)

// Fingerprint groups dead letters of one cause.
func Fingerprint(class, code, message string) string {
	sum := sha256.Sum256([]byte(class + "\x00" + code + "\x00" + variable.ReplaceAllString(message, "?")))
	return hex.EncodeToString(sum[:8])
}

// Clip makes valid UTF-8 of at most n bytes.
func Clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
