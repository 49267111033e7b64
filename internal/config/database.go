package config

import (
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// masked stands where a secret was.
const masked = "xxxxx"

var (
	urlPassword  = regexp.MustCompile(`(://[^:/@?#\s]*):[^/?#\s]*@`)
	wordPassword = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s&#]+)`)
)

// Redact masks the passwords of connection strings, URLs and key=value alike, wherever they stand in text.
func Redact(text string) string {
	text = urlPassword.ReplaceAllString(text, "${1}:"+masked+"@")
	return wordPassword.ReplaceAllString(text, "${1}"+masked)
}

var sslmodeGiven = regexp.MustCompile(`\bsslmode\s*=`)

// verifyRemote makes the connection string demand a verified certificate when it does not name an sslmode itself and a host is not this machine:
// the driver's own default, prefer, would send the password in clear to whoever answers. A string that is not valid is left for the check.
func verifyRemote(text string) string {
	if sslmodeGiven.MatchString(text) {
		return text
	}
	parsed, err := pgconn.ParseConfig(text)
	if err != nil || allLocal(parsed) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return text + " sslmode=verify-full"
	}
	query := u.Query()
	query.Set("sslmode", "verify-full")
	u.RawQuery = query.Encode()
	return u.String()
}

func allLocal(c *pgconn.Config) bool {
	if !local(c.Host) {
		return false
	}
	for _, f := range c.Fallbacks {
		if !local(f.Host) {
			return false
		}
	}
	return true
}

func local(host string) bool {
	if host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
		return true // by name, or a socket of the file system
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
