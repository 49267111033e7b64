package devstack

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseMail(t *testing.T) {
	t.Parallel()
	const id = "01990000-0000-7000-8000-000000000001"
	for name, tt := range map[string]struct {
		raw  string
		want Mail
	}{
		"a plain mail": {
			"From: walpost <noreply@walpost.example>\r\nSubject: Welcome\r\nMessage-ID: <" + id + "@walpost.example>\r\n\r\nHello\r\n",
			Mail{From: "walpost <noreply@walpost.example>", Subject: "Welcome", MessageID: id + "@walpost.example", Text: "Hello\r\n"},
		},
		"an encoded subject and a quoted-printable body": {
			"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe=\r\n!",
			Mail{Subject: "Grüße", Text: "Grüße!"},
		},
		"a base64 body": {
			"Content-Type: text/plain\r\nContent-Transfer-Encoding: BASE64\r\n\r\nSGVs\r\nbG8=\r\n",
			Mail{Text: "Hello"},
		},
		"plain text is taken before HTML": {
			"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n--b\r\nContent-Type: text/plain\r\n\r\nyes\r\n--b--\r\n",
			Mail{Text: "yes"},
		},
		"HTML is shown as its source when there is nothing else": {
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n--b--\r\n",
			Mail{Text: "<p>x</p>"},
		},
		"an attachment is no text": {
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf\r\n\r\n%PDF\r\n--b\r\n\r\nletter\r\n--b--\r\n",
			Mail{Text: "letter"},
		},
		"a body that breaks off is shown as far as it goes": {
			"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8",
			Mail{Text: "Hel", Problem: "body not readable to its end: unexpected EOF"},
		},
		"a mail without headers is all text": {
			"no header here\r\n",
			Mail{Text: "no header here\r\n", Problem: "no readable headers: malformed MIME header line: no header here"},
		},
		"bytes that are no UTF-8 are replaced": {
			"Subject: a\xffb\r\n\r\n\xff",
			Mail{Subject: "a\ufffdb", Text: "\ufffd"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parseMail([]byte(tt.raw))
			tt.want.Bytes = len(tt.raw)
			if strings.HasPrefix(got.Problem, "no readable headers") && strings.HasPrefix(tt.want.Problem, "no readable headers") {
				got.Problem = tt.want.Problem // the reason is the standard library's
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("parseMail(%q) (-want +got):\n%s", tt.raw, diff)
			}
		})
	}
}

func FuzzParseMail(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\nbody"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := parseMail(raw)
		if len(m.Text) > 3*maxMailText { // a replacement character is three bytes
			t.Errorf("text of %d bytes", len(m.Text))
		}
		for _, text := range []string{m.From, m.Subject, m.MessageID, m.Text} {
			if !utf8.ValidString(text) {
				t.Errorf("not UTF-8: %q", text)
			}
		}
	})
}
