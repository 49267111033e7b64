package chaos

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func row(seed uint64, n int, of ...Kind) []Fault {
	s := newSchedule(seed, of)
	var list []Fault
	for range n {
		list = append(list, s.next())
	}
	return list
}

func TestASeedIsARowOfFaults(t *testing.T) {
	t.Parallel()
	once, again := row(1, 100, Kinds()...), row(1, 100, Kinds()...)
	if diff := cmp.Diff(once, again); diff != "" {
		t.Errorf("the same seed gave another row (-once +again):\n%s", diff)
	}
	if cmp.Equal(once, row(2, 100, Kinds()...)) {
		t.Error("another seed gave the same row")
	}
}

func TestEveryKindOfFaultComesInEachDeck(t *testing.T) {
	t.Parallel()
	size := 0
	for _, k := range kinds() {
		size += k.share
		if k.share < 1 || len(k.ways) == 0 || k.least > k.most {
			t.Errorf("kind %s = %+v, want a share, a way and a range", k.name, k)
		}
	}
	if size != 20 {
		t.Errorf("the shares are of %d, want of 20", size)
	}
	for seed := range uint64(20) {
		list := row(seed, size, Kinds()...)
		for _, k := range kinds() {
			n := 0
			for _, f := range list {
				if f.Kind == k.name {
					n++
					if !slices.Contains(k.ways, f.Way) || f.Lasts < k.least || f.Lasts > k.most {
						t.Errorf("seed %d: %+v, want a way of %v and %v to %v", seed, f, k.ways, k.least, k.most)
					}
				}
			}
			if n != k.share {
				t.Errorf("seed %d: %s came %d times among %d, want %d", seed, k.name, n, size, k.share)
			}
		}
	}
}

func TestOnlyTheKindsThatAreAskedForCome(t *testing.T) {
	t.Parallel()
	for _, f := range row(3, 50, Walsender, ServerKill) {
		if f.Kind != Walsender && f.Kind != ServerKill {
			t.Errorf("fault %s came, want walsender and server-kill alone", f.Kind)
		}
	}
	if list, err := ParseKinds([]string{"server-kill", "walsender"}); err != nil || !slices.Equal(list, []Kind{ServerKill, Walsender}) {
		t.Errorf("ParseKinds(server-kill, walsender) = %v, %v", list, err)
	}
	if _, err := ParseKinds([]string{"earthquake"}); err == nil {
		t.Error("ParseKinds(earthquake) = nil, want an error")
	}
}
