package httpapi

import (
	"container/list"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the memory of one limiter, at about 300 bytes each. Whoever was not seen for longest is forgotten first
// and starts with a full bucket: with more active clients than this the limit gets softer, never the memory larger.
const maxBuckets = 10_000

// Limit is a token bucket: Burst requests at once, and PerSecond in the long run.
type Limit struct {
	PerSecond float64 // may be a fraction; 0: no limit
	Burst     int     // default: 1
}

// DefaultRecipientLimit suits a server open to the world: it keeps strangers from filling somebody's mailbox, and whoever tries
// the application out by hand does not meet it.
func DefaultRecipientLimit() Limit { return Limit{PerSecond: 1.0 / 60, Burst: 10} }

// buckets is a bounded set of token buckets, one a key. A nil *buckets limits nothing.
type buckets struct {
	limit Limit

	mu     sync.Mutex // guards what follows
	order  *list.List // of *bucket, the most recently used in front
	places map[string]*list.Element
}

type bucket struct {
	key     string
	limiter *rate.Limiter
}

func newBuckets(limit Limit) *buckets {
	if limit.PerSecond <= 0 {
		return nil
	}
	limit.Burst = max(limit.Burst, 1)
	return &buckets{limit: limit, order: list.New(), places: make(map[string]*list.Element)}
}

// take takes a token from the key's bucket. When there is none it takes nothing and returns how long to wait for one.
func (b *buckets) take(key string) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	r := b.bucket(key).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// bucket returns the key's limiter, and makes room for a new one. The caller holds mu.
func (b *buckets) bucket(key string) *rate.Limiter {
	if place, ok := b.places[key]; ok {
		b.order.MoveToFront(place)
		return place.Value.(*bucket).limiter
	}
	if oldest := b.order.Back(); len(b.places) >= maxBuckets {
		delete(b.places, b.order.Remove(oldest).(*bucket).key)
	}
	limiter := rate.NewLimiter(rate.Limit(b.limit.PerSecond), b.limit.Burst)
	b.places[key] = b.order.PushFront(&bucket{key: key, limiter: limiter})
	return limiter
}

// clientKey names the client of a request: its IPv4 address or its IPv6 network of 64 bits, since whoever has one address of
// such a network has them all. Requests without a readable address share one name.
func clientKey(r *http.Request, proxies []netip.Prefix) string {
	addr := clientAddr(r, proxies)
	if addr.Is6() {
		network, _ := addr.Prefix(64) // fails for more bits than the address has
		return network.String()
	}
	return addr.String()
}

// clientAddr is the peer, or, when the peer is a trusted proxy, the last address in X-Forwarded-For that is not one. Each
// proxy appends the address it was called from, so what stands left of the first stranger is hearsay.
func clientAddr(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(hops) > 0 && trusted(client, proxies) {
		last := len(hops) - 1
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[last]))
		if err != nil {
			break
		}
		client, hops = hop.Unmap().WithZone(""), hops[:last]
	}
	return client
}

func trusted(addr netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
