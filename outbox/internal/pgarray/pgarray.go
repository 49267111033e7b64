// Package pgarray writes one-dimensional PostgreSQL array literals.
//
// It is not a driver's array codec: it knows no element types. Every element is quoted, so what the server's input
// function of the element type sees is exactly the text given, and one string parameter carries a whole column
// through any driver. See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
package pgarray

import "strings"

// Literal is a literal under construction. The zero value is the empty array.
type Literal struct {
	text strings.Builder
}

// escape puts a backslash before the two characters that mean something within quotes.
var escape = strings.NewReplacer(`"`, `\"`, `\`, `\\`)

// Append adds an element. Its text must hold no NUL byte, which PostgreSQL cannot store.
func (l *Literal) Append(element string) {
	l.separate()
	l.text.WriteByte('"')
	_, _ = escape.WriteString(&l.text, element) // a strings.Builder never fails
	l.text.WriteByte('"')
}

// AppendNull adds a NULL.
func (l *Literal) AppendNull() {
	l.separate()
	l.text.WriteString("NULL")
}

// AppendOrNull adds the element if it is present, else a NULL.
func (l *Literal) AppendOrNull(element string, present bool) {
	if !present {
		l.AppendNull()
		return
	}
	l.Append(element)
}

func (l *Literal) separate() {
	if l.text.Len() == 0 {
		l.text.WriteByte('{')
		return
	}
	l.text.WriteByte(',')
}

// String returns the literal.
func (l *Literal) String() string {
	if l.text.Len() == 0 {
		return "{}"
	}
	return l.text.String() + "}"
}
