package app_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/walpost/walpost/app"
)

func TestParseEmailAccepts(t *testing.T) {
	t.Parallel()
	local64 := strings.Repeat("l", 64)
	domain189 := strings.Repeat(strings.Repeat("d", 62)+".", 3)[:188] + "e"
	for name, tc := range map[string]struct{ in, want string }{
		"a plain address":                        {"ada@example.com", "ada@example.com"},
		"a tag":                                  {"ada+walpost@example.com", "ada+walpost@example.com"},
		"special characters of the local part":   {"o'hara.b_c-d%e@example.com", "o'hara.b_c-d%e@example.com"},
		"a domain in capitals, made small":       {"ada@EXAMPLE.Com", "ada@example.com"},
		"capitals in the local part, kept":       {"Ada@example.com", "Ada@example.com"},
		"a domain in its xn-- form":              {"ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"},
		"a label of digits that is not the last": {"ada@163.com", "ada@163.com"},
		"the longest address and local part":     {local64 + "@" + domain189, local64 + "@" + domain189},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := app.ParseEmail(tc.in)
			if err != nil || string(got) != tc.want {
				t.Errorf("ParseEmail(%q) = %q, %v, want %q", tc.in, got, err, tc.want)
			}
		})
	}
}

func TestParseEmailRefuses(t *testing.T) {
	t.Parallel()
	const form, host = "is not an address of the form name@domain", "has a domain that is not a host name"
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":                           {"", "is empty"},
		"no at sign":                        {"example.com", form},
		"no local part":                     {"@example.com", form},
		"no domain":                         {"ada@", "has a domain without a dot"},
		"two at signs":                      {"ada@b@example.com", form},
		"255 bytes":                         {strings.Repeat("l", 64) + "@" + strings.Repeat(strings.Repeat("d", 62)+".", 3) + "e", "has 255 bytes, the most is 254"},
		"65 bytes before the at sign":       {strings.Repeat("l", 65) + "@example.com", "has 65 bytes before the @, the most is 64"},
		"a header after a line end":         {"ada@example.com\r\nBcc: eve@example.com", "contains a control character"},
		"a line feed":                       {"ada\n@example.com", "contains a control character"},
		"a NUL":                             {"ada\x00@example.com", "contains a control character"},
		"a DEL":                             {"ada\x7f@example.com", "contains a control character"},
		"a domain outside ASCII":            {"ada@bücher.example", "contains a character outside ASCII, which is not supported yet; write an internationalised domain in its xn-- form"},
		"a local part outside ASCII":        {"ädä@example.com", "contains a character outside ASCII, which is not supported yet; write an internationalised domain in its xn-- form"},
		"text that is not UTF-8":            {"ada\xff@example.com", "contains a character outside ASCII, which is not supported yet; write an internationalised domain in its xn-- form"},
		"a display name":                    {"Ada <ada@example.com>", host},
		"angle brackets":                    {"<ada@example.com>", host},
		"a comment":                         {"ada(she)@example.com", form},
		"a comment after the domain":        {"ada@example.com(she)", host},
		"a space before":                    {" ada@example.com", form},
		"a space after":                     {"ada@example.com ", host},
		"quoting":                           {`"ada"@example.com`, form},
		"quoting that hides an at sign":     {`"eve@evil.example"@example.com`, form},
		"a dot at the beginning":            {".ada@example.com", form},
		"two dots":                          {"a..da@example.com", form},
		"an IPv4 literal":                   {"ada@[127.0.0.1]", "has an IP address instead of a domain"},
		"an IPv6 literal":                   {"ada@[IPv6:::1]", "has an IP address instead of a domain"},
		"an IPv4 address without bracket":   {"ada@127.0.0.1", "has an IP address instead of a domain"},
		"a domain without a dot":            {"ada@localhost", "has a domain without a dot"},
		"a dot at the domain's end":         {"ada@example.com.", host},
		"an empty label":                    {"ada@example..com", host},
		"a label that begins with a hyphen": {"ada@-example.com", host},
		"a label that ends with a hyphen":   {"ada@example-.com", host},
		"an underscore in the domain":       {"ada@ex_ample.com", host},
		"a label of 64 bytes":               {"ada@" + strings.Repeat("d", 64) + ".com", host},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := app.ParseEmail(tc.in)
			var field *app.FieldError
			if !errors.As(err, &field) || field.Field != "email" || field.Reason != tc.want || !errors.Is(err, app.ErrInvalidEmail) {
				t.Errorf("ParseEmail(%q) = %q, %v, want email %s", tc.in, got, err, tc.want)
			}
		})
	}
}

// What is accepted goes into SMTP commands and mail headers: it must have no way out of them.
func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"ada@example.com", "a@b.c\r\nRCPT TO:<e@f.g>", `"a@b"@c.de`, "<a@b.cd>", "a@[::1]", "ä@b.cd", "a\x00@b.cd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := app.ParseEmail(in)
		if err != nil {
			if !errors.Is(err, app.ErrInvalidEmail) {
				t.Fatalf("ParseEmail(%q) = %v, want an ErrInvalidEmail", in, err)
			}
			return
		}
		if strings.ContainsFunc(string(got), func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()[]:;,\"`, r) }) {
			t.Errorf("ParseEmail(%q) = %q, which could leave a command or a header", in, got)
		}
		if again, err := app.ParseEmail(string(got)); err != nil || again != got || len(got) > 254 {
			t.Errorf("ParseEmail(%q) = %q, %v, want itself", got, again, err)
		}
	})
}
