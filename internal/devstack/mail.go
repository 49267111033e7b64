package devstack

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
)

const (
	maxMailText  = 64 << 10 // of a mail's text, kept and shown
	maxMailDepth = 5        // of parts within parts
)

// Mail is what the sink keeps of a mail. All text is whatever the sender wrote: show it, never interpret it.
type Mail struct {
	Number     int       `json:"number"` // in the order of arrival since the sink began, from 1
	ReceivedAt time.Time `json:"received_at"`
	From       string    `json:"from"`       // the header, else the envelope's sender
	To         []string  `json:"to"`         // the envelope's recipients
	Subject    string    `json:"subject"`    // decoded
	MessageID  string    `json:"message_id"` // without the angle brackets
	Text       string    `json:"text"`       // the first plain part, else the first other text, valid UTF-8, at most 64 kB
	Bytes      int       `json:"bytes"`      // of the whole mail as sent
	Problem    string    `json:"problem,omitempty"`
}

// parseMail reads what can be read of a mail; what cannot is said in Problem, never an error: the sink accepts all mail.
func parseMail(raw []byte) Mail {
	m := Mail{Bytes: len(raw)}
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		m.Problem = "no readable headers: " + err.Error()
		m.Text = cleanText(raw)
		return m
	}
	m.From = decodeHeader(msg.Header.Get("From"))
	m.Subject = decodeHeader(msg.Header.Get("Subject"))
	m.MessageID = strings.Trim(msg.Header.Get("Message-Id"), "<> ")
	text, err := findText(textproto.MIMEHeader(msg.Header), msg.Body, maxMailDepth)
	if err != nil {
		m.Problem = "body not readable to its end: " + err.Error()
	}
	m.Text = cleanText(text)
	return m
}

// decodeHeader decodes RFC 2047 words; a header in an unknown character set stays as it was sent.
func decodeHeader(value string) string {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		value = decoded
	}
	return strings.ToValidUTF8(value, "\ufffd")
}

func cleanText(text []byte) string {
	if len(text) > maxMailText {
		text = text[:maxMailText]
	}
	return strings.ToValidUTF8(string(text), "\ufffd")
}

// findText returns the first plain text in a part and the parts inside it, else the first other text.
func findText(header textproto.MIMEHeader, body io.Reader, depth int) ([]byte, error) {
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		media = "text/plain" // RFC 2045, 5.2: also what a broken type reads as
	}
	if !strings.HasPrefix(media, "multipart/") {
		if !strings.HasPrefix(media, "text/") {
			return nil, nil
		}
		return io.ReadAll(io.LimitReader(decoded(header, body), maxMailText+1))
	}
	if depth == 0 {
		return nil, errors.New("parts nested too deeply")
	}
	return firstText(multipart.NewReader(body, params["boundary"]), depth)
}

func firstText(parts *multipart.Reader, depth int) ([]byte, error) {
	var other []byte
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return other, nil
		}
		if err != nil {
			return other, err
		}
		text, err := findText(part.Header, part, depth-1)
		if plain := !strings.HasPrefix(part.Header.Get("Content-Type"), "text/html"); plain && len(text) > 0 || err != nil {
			return text, err
		}
		if other == nil {
			other = text
		}
	}
}

// decoded undoes the transfer encoding. A multipart.Reader has undone quoted-printable, and taken its header away, by itself.
func decoded(header textproto.MIMEHeader, body io.Reader) io.Reader {
	switch strings.ToLower(header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	default:
		return body
	}
}
