package debezium

import (
	"regexp"
	"strings"
)

const masked = "********"

// secretName matches the names of settings that may hold a secret.
var secretName = regexp.MustCompile(`(?i)password|secret|token|credential|jaas|passphrase|api\.?key|sslkey|connection\.?string|basic\.auth|keystore\.key`)

func secret(name string) bool { return secretName.MatchString(name) }

// mask hides the value of a setting that may be secret. A reference to a config provider is none: it says where the secret is.
func mask(name, value string) string {
	if value == "" || !secret(name) || isReference(value) {
		return value
	}
	return masked
}

// redact removes the secrets of a configuration from a text that came from elsewhere.
func redact(text string, config map[string]string) string {
	for name, value := range config {
		if len(value) > 3 && mask(name, value) != value { // shorter ones are part of other words
			text = strings.ReplaceAll(text, value, masked)
		}
	}
	return text
}
