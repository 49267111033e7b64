package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/record"
)

// The checks get a value of the option's own type.

func oneOf(words ...string) func(any) error {
	return func(value any) error {
		word := value.(string)
		if slices.Contains(words, word) {
			return nil
		}
		return fmt.Errorf("%q is not one of %s", word, strings.Join(words, ", "))
	}
}

func atLeast[T cmp.Ordered](least T) func(any) error {
	return func(value any) error {
		if number := value.(T); number < least {
			return fmt.Errorf("%v is less than %v", number, least)
		}
		return nil
	}
}

func each(check func(any) error) func(any) error {
	return func(value any) error {
		for _, item := range value.([]string) {
			if err := check(item); err != nil {
				return err
			}
		}
		return nil
	}
}

func optional(check func(any) error) func(any) error {
	return func(value any) error {
		if value.(string) == "" {
			return nil
		}
		return check(value)
	}
}

func httpURL(value any) error {
	u, err := url.Parse(value.(string))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not http://host:port", Redact(value.(string)))
	}
	return nil
}

// maskLiteral shows a reference that the workers resolve, ${provider:path:key}, and hides what could be the password itself.
func maskLiteral(value string) string {
	if strings.HasPrefix(value, "${") && strings.HasSuffix(value, "}") {
		return value
	}
	return masked
}

func nonEmpty(value any) error {
	if value.(string) == "" {
		return errors.New("it is empty")
	}
	return nil
}

func replication(value any) error {
	if n := value.(int); n != -1 && n < 1 {
		return fmt.Errorf("%d is neither -1 nor at least 1", n)
	}
	return nil
}

// listenAddr accepts an empty host, which is every address of this machine, and port 0, which is any free one.
func listenAddr(value any) error {
	_, port, err := net.SplitHostPort(value.(string))
	if err != nil {
		return fmt.Errorf("%q is not host:port", value)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port from 0 to 65535", value)
	}
	return nil
}

func remoteAddr(value any) error {
	if err := listenAddr(value); err != nil {
		return err
	}
	if host, port, _ := net.SplitHostPort(value.(string)); host == "" || port == "0" {
		return fmt.Errorf("%q lacks a host or a port to connect to", value)
	}
	return nil
}

func brokers(value any) error {
	if len(value.([]string)) == 0 {
		return errors.New("name at least one broker, host:port")
	}
	return each(remoteAddr)(value)
}

func network(value any) error {
	text := value.(string)
	if _, err := netip.ParseAddr(text); err == nil {
		return nil
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return nil
	}
	return fmt.Errorf("%q is neither an address nor a network like 10.0.0.0/8", text)
}

func mailAddress(value any) error {
	if _, err := mail.ParseAddress(value.(string)); err != nil {
		return fmt.Errorf("%q is not a mail address", value)
	}
	return nil
}

// databaseURL relies on pgx for the syntax; its errors do not show the password.
func databaseURL(value any) error {
	if value.(string) == "" {
		return errors.New("it is empty: want postgres://user@host:port/database")
	}
	if _, err := pgconn.ParseConfig(value.(string)); err != nil {
		return errors.New(Redact(err.Error()))
	}
	return nil
}

var slotPattern = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func slotName(value any) error {
	if !slotPattern.MatchString(value.(string)) {
		return fmt.Errorf("%q is not a slot name: 1 to 63 of a-z, 0-9 and _", value)
	}
	return nil
}

func topicName(value any) error { return record.CheckTopic(value.(string)) }

// identifier accepts what PostgreSQL keeps uncut (NAMEDATALEN - 1 bytes); quoting is the business of the statements.
func identifier(value any) error {
	if name := value.(string); name == "" || len(name) > 63 || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q is not a name of 1 to 63 bytes", name)
	}
	return nil
}

func tableName(value any) error {
	parts := strings.Split(value.(string), ".")
	if len(parts) > 2 {
		return fmt.Errorf("%q is neither table nor schema.table", value)
	}
	return each(identifier)(parts)
}

func topicExpression(value any) error {
	if value.(string) == "" {
		return errors.New("it is empty: want text with ${column} in it")
	}
	return record.Mapping{Topic: value.(string)}.Validate()
}

// Deliveries are the modes that --delivery takes.
func Deliveries() []string { return []string{"exactly-once", "at-least-once"} }
