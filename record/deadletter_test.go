package record_test

import (
	"testing"
	"unicode/utf8"

	"github.com/walpost/walpost/record"
)

func TestClipGivesValidTextOfBoundedLength(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want string }{
		{"short", "short"},
		{"0123456789", "01234567"},
		{"0123456é", "0123456"},
		{"a\xffb", "a\uFFFDb"},
		{"", ""},
	} {
		if got := record.Clip(tc.in, 8); got != tc.want || !utf8.ValidString(got) {
			t.Errorf("Clip(%q, 8) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestDeadLettersOfOneCauseHaveOneFingerprint(t *testing.T) {
	t.Parallel()
	a := record.Fingerprint("permanent", "x", `user "bob" 0198c5a0-0000-7000-8000-000000000001 of 17 is gone`)
	b := record.Fingerprint("permanent", "x", `user "eve" 0198c5a0-ffff-7000-8000-00000000000f of 4 is gone`)
	c := record.Fingerprint("permanent", "x", `user "eve" is gone`)
	if a != b || a == c {
		t.Errorf("fingerprints are %s, %s, %s, want the first two equal and the third another", a, b, c)
	}
	if a, b := record.Fingerprint("permanent", "x", "at 16/B374D848#3"), record.Fingerprint("permanent", "x", "at 0/6B#1"); a != b {
		t.Errorf("fingerprints of two positions are %s and %s, want one", a, b)
	}
}
