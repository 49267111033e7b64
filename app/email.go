package app

import (
	"fmt"
	"net/mail"
	"strings"
)

const (
	maxEmailBytes  = 254 // a path of SMTP has at most 256 with its angle brackets: RFC 5321, section 4.5.3.1.3
	maxLocalBytes  = 64  // RFC 5321, section 4.5.3.1.1
	maxDomainLabel = 63  // RFC 1035, section 2.3.4
)

// Email is an address that ParseEmail has accepted: one plain ASCII mailbox, its domain in lower case. It is safe to put
// into a mail header and into an SMTP command.
type Email string

// ParseEmail checks an address and normalises the case of its domain; the local part is left as it is, because only the
// receiving server knows whether its case matters. It refuses display names, comments, quoting, spaces and control
// characters, IP addresses, domains without a dot and, for now, anything outside ASCII. Its error wraps ErrInvalidEmail.
func ParseEmail(s string) (Email, error) {
	if reason := emailFault(s); reason != "" {
		return "", &FieldError{Field: "email", Reason: reason, kind: ErrInvalidEmail}
	}
	at := strings.LastIndexByte(s, '@')
	return Email(s[:at] + "@" + strings.ToLower(s[at+1:])), nil
}

// emailFault returns what is wrong with an address, "" when nothing is.
func emailFault(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxEmailBytes:
		return fmt.Sprintf("has %d bytes, the most is %d", len(s), maxEmailBytes)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "contains a control character"
	case strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }):
		return "contains a character outside ASCII, which is not supported yet; write an internationalised domain in its xn-- form"
	}
	at := strings.LastIndexByte(s, '@')
	switch {
	case at < 0:
		return "is not an address of the form name@domain"
	case at > maxLocalBytes:
		return fmt.Sprintf("has %d bytes before the @, the most is %d", at, maxLocalBytes)
	}
	if reason := domainFault(s[at+1:]); reason != "" {
		return reason
	}
	// A display name, a comment, quoting or outer space makes the parsed address differ from what was written.
	if addr, err := mail.ParseAddress(s); err != nil || addr.Address != s {
		return "is not an address of the form name@domain"
	}
	return ""
}

func domainFault(domain string) string {
	labels := strings.Split(domain, ".")
	last := labels[len(labels)-1]
	switch {
	case strings.HasPrefix(domain, "["), last != "" && strings.Trim(last, "0123456789") == "":
		return "has an IP address instead of a domain"
	case len(labels) == 1:
		return "has a domain without a dot"
	}
	for _, label := range labels {
		if !validLabel(label) {
			return "has a domain that is not a host name"
		}
	}
	return ""
}

// validLabel reports whether a label of a host name is made of letters, digits and inner hyphens: RFC 1123, section 2.1.
func validLabel(label string) bool {
	if label == "" || len(label) > maxDomainLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
