package balancer

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

// scheduled lets the picker prepare one ready connection per weight; they are
// called a, b, c, ….
func scheduled(p Picker, at *position, weights ...uint32) schedule {
	ready, shares := make([]*conn, len(weights)), make([]uint32, len(weights))
	e := new(engine)
	if at == nil {
		at = new(position)
		at.start()
	}
	for i, w := range weights {
		ready[i] = &conn{target: pick.Target{ID: string(rune('a' + i))}, tally: new(tally), child: &child{engine: e}}
		shares[i] = p.share(w)
	}
	return p.schedule(ready, shares, at)
}

func draw(s schedule, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		c, _ := s.next(false)
		ids[i] = c.target.ID
	}
	return ids
}

func count[K comparable](all []K) map[K]int {
	counts := map[K]int{}
	for _, one := range all {
		counts[one]++
	}
	return counts
}

func TestOrderOfPicks(t *testing.T) {
	for _, tt := range []struct {
		picker  Picker
		weights []uint32
		want    string
	}{
		{WeightedRoundRobin{}, []uint32{5, 1, 1}, "a a b a c a a a a b a c a a"},
		{WeightedRoundRobin{}, []uint32{50, 10, 10}, "a a b a c a a a a b a c a a"},
		{WeightedRoundRobin{}, []uint32{5, 3, 2}, "a b c a a b a c b a"},
		{WeightedRoundRobin{}, []uint32{7, 7, 7}, "a b c a b c"},
		{WeightedRoundRobin{}, []uint32{9}, "a a a"},
		{RoundRobin{}, []uint32{5, 1, 1}, "a b c a b c"},
		{RoundRobin{}, []uint32{1, 1, 1, 1}, "a b c d a b c d"},
	} {
		want := strings.Fields(tt.want)
		if got := draw(scheduled(tt.picker, new(position), tt.weights...), len(want)); !slices.Equal(got, want) {
			t.Errorf("%T%v: %v, want %v", tt.picker, tt.weights, got, want)
		}
	}
}

// nginx is the reference: ngx_http_upstream_get_peer, with weights as they are.
func nginx(weights []uint32) (order []uint32) {
	current, total := make([]int64, len(weights)), int64(0)
	for _, w := range weights {
		total += int64(w)
	}
	for range total {
		best := -1
		for i, w := range weights {
			if current[i] += int64(w); best < 0 || current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		order = append(order, uint32(best))
	}
	return order
}

func TestSmoothEqualsNginx(t *testing.T) {
	check := func(weights ...uint32) {
		counts, total := turn(weights)
		got, want := interleave(counts, total), nginx(weights)
		for i := range want {
			if got[i%total] != want[i] {
				t.Fatalf("weights %v: %v, want %v", weights, got, want)
			}
		}
	}
	const most = 6
	for a := uint32(1); a <= most; a++ {
		for b := uint32(1); b <= most; b++ {
			check(a, b)
			for c := uint32(1); c <= most; c++ {
				check(a, b, c)
				for d := uint32(1); d <= most; d++ {
					check(a, b, c, d)
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		weights := make([]uint32, 1+rng.IntN(32))
		for i := range weights {
			weights[i] = 1 + rng.Uint32N(64)
		}
		check(weights...)
	}
}

// weightVectors are sets of weights of all kinds, by what they are.
func weightVectors() map[string][]uint32 {
	rng := rand.New(rand.NewPCG(3, 4))
	vector := func(n int, weight func(i int) uint32) []uint32 {
		weights := make([]uint32, n)
		for i := range weights {
			weights[i] = weight(i)
		}
		return weights
	}
	return map[string][]uint32{
		"one":                   {math.MaxUint32},
		"huge and coprime":      {math.MaxUint32, math.MaxUint32 - 1, math.MaxUint32 - 2},
		"huge and tiny":         {math.MaxUint32, 1, 1},
		"tiny among huge":       vector(1000, func(i int) uint32 { return max(1, math.MaxUint32*min(1, uint32(i))) }),
		"huge among tiny":       append(vector(1000, func(int) uint32 { return 1 }), math.MaxUint32),
		"coprime":               {997, 991, 983, 977},
		"small":                 {5, 3, 2},
		"halves":                vector(10, func(i int) uint32 { return 1 << i }),
		"one half of the total": append(vector(999, func(int) uint32 { return 1 }), 999),
		"two kinds":             vector(2000, func(i int) uint32 { return 1 + uint32(i%2) }),
		"random small":          vector(3000, func(int) uint32 { return 1 + rng.Uint32N(10) }),
		"random":                vector(1000, func(int) uint32 { return 1 + rng.Uint32N(1000) }),
		"all over":              vector(2000, func(int) uint32 { return 1 + rng.Uint32()>>rng.UintN(32) }),
		"ten thousand":          vector(10_000, func(int) uint32 { return 1 + rng.Uint32N(10_000) }),
	}
}

func TestTurnKeepsItsBounds(t *testing.T) {
	for name, weights := range weightVectors() {
		counts, total := turn(weights)
		var sum, weightSum uint64
		byWeight := map[uint32]uint32{}
		for i, c := range counts {
			sum, weightSum = sum+uint64(c), weightSum+uint64(weights[i])
			if c == 0 {
				t.Errorf("%s: weight %d is never picked", name, weights[i])
			}
			if other, ok := byWeight[weights[i]]; ok && other != c {
				t.Errorf("%s: weight %d is picked %d and %d times", name, weights[i], other, c)
			}
			byWeight[weights[i]] = c
		}
		if uint64(total) != sum || total > maxPicks*len(weights) {
			t.Errorf("%s: a turn of %d for %d instances, counts add up to %d", name, total, len(weights), sum)
		}
		average := 1 / float64(len(weights))
		for i, c := range counts {
			got, want := float64(c)/float64(total), float64(weights[i])/float64(weightSum)
			if math.Abs(got-want) > 0.016*(want+average) {
				t.Errorf("%s: weight %d gets a share of %g, want %g", name, weights[i], got, want)
			}
		}
	}
}

func TestTurnIsExactForSmallWeights(t *testing.T) {
	for _, tt := range []struct{ weights, want []uint32 }{
		{[]uint32{10, 20, 30}, []uint32{1, 2, 3}},
		{[]uint32{63, 64, 65}, []uint32{63, 64, 65}}, // just fits
		{[]uint32{math.MaxUint32, math.MaxUint32}, []uint32{1, 1}},
		{[]uint32{1 << 31, 1 << 30}, []uint32{2, 1}},
	} {
		if counts, _ := turn(tt.weights); !slices.Equal(counts, tt.want) {
			t.Errorf("%v: %v, want %v", tt.weights, counts, tt.want)
		}
	}
}

// TestInterleaveIsSmooth: at no moment of a turn is anybody further ahead or
// behind than documented.
func TestInterleaveIsSmooth(t *testing.T) {
	for name, weights := range weightVectors() {
		counts, total := turn(weights)
		order := interleave(counts, total)
		classes := float64(len(count(counts)))
		picked := make([]uint32, len(counts))
		var worst float64
		for slot, i := range order {
			share := float64(counts[i]) / float64(total)
			bound := 1 + classes/2*share
			before := float64(picked[i]) - share*float64(slot)
			picked[i]++
			after := float64(picked[i]) - share*float64(slot+1)
			worst = max(worst, -before, after)
			if -before > bound || after > bound {
				t.Fatalf("%s: at pick %d, instance %d of weight %d is %.2f behind or %.2f ahead; at most %.2f is allowed",
					name, slot, i, weights[i], -before, after, bound)
			}
		}
		if !slices.Equal(picked, counts) {
			t.Errorf("%s: picked %v, want %v", name, picked, counts)
		}
		t.Logf("%-22s %5d instances, %6d picks a turn, %4.0f classes: at most %.2f picks ahead or behind", name, len(weights), total, classes, worst)
	}
}

func TestRotationIsExactFromAnywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{1, 2, 3, 5, 7, 10, 64, 100, 1000, 4096, 10_000} {
		table := make([]*conn, n)
		for i := range table {
			table[i] = &conn{target: pick.Target{ID: fmt.Sprint(i)}}
		}
		var at position
		at.phase.Store(rng.Uint64())
		r := newRotation(table, &at)
		for id, got := range count(draw(r, 5*n)) {
			if got != 5 {
				t.Errorf("%d instances: %s was picked %d times in 5 turns", n, id, got)
			}
		}
	}
}

func TestPositionSurvivesAChangeOfTheTurn(t *testing.T) {
	var at position
	before := draw(scheduled(RoundRobin{}, &at, 1, 1, 1, 1), 2)
	after := draw(scheduled(RoundRobin{}, &at, 1, 1, 1, 1), 2)
	if got, want := append(before, after...), []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v: whoever has waited is next", got, want)
	}

	// However often the weights change, everybody gets their share of it.
	rng, picked := rand.New(rand.NewPCG(7, 8)), map[string]int{}
	for range 1000 {
		s := scheduled(WeightedRoundRobin{}, &at, 5, 3+rng.Uint32N(2), 2)
		for _, id := range draw(s, 1+rng.IntN(3)) {
			picked[id]++
		}
	}
	total := float64(picked["a"] + picked["b"] + picked["c"])
	for id, want := range map[string]float64{"a": 5 / 10.5, "b": 3.5 / 10.5, "c": 2 / 10.5} {
		if got := float64(picked[id]) / total; math.Abs(got-want) > 0.02 {
			t.Errorf("%s got a share of %.3f while weights changed, want %.3f", id, got, want)
		}
	}
}

// TestAliasesAreExact adds up, ticket by ticket, the probability with which each
// is drawn.
func TestAliasesAreExact(t *testing.T) {
	whole := new(big.Int).Lsh(big.NewInt(1), 64)
	for name, weights := range weightVectors() {
		table := aliases(weights)
		drawn, sum := make([]*big.Int, len(weights)), new(big.Int)
		for i, w := range weights {
			drawn[i] = new(big.Int)
			sum.Add(sum, big.NewInt(int64(w)))
		}
		for i, a := range table {
			share := new(big.Int).SetUint64(a.own)
			drawn[i].Add(drawn[i], share)
			drawn[a.other].Add(drawn[a.other], share.Sub(whole, share))
		}
		for i, w := range weights {
			got, _ := new(big.Rat).SetFrac(drawn[i], new(big.Int).Mul(whole, big.NewInt(int64(len(weights))))).Float64()
			want, _ := new(big.Rat).SetFrac(big.NewInt(int64(w)), sum).Float64()
			if math.Abs(got-want) > 1e-12*want+1e-18 {
				t.Fatalf("%s: weight %d is drawn with probability %g, want %g", name, w, got, want)
			}
		}
	}
}

// Where nobody has calls in hand the pickers that look at them follow the weights
// too.
func TestDrawsFollowTheWeights(t *testing.T) {
	for _, p := range []Picker{Random{}, P2C{}, LeastRequest{ChoiceCount: 2}} {
		for _, weights := range [][]uint32{
			{1, 1, 1}, {5, 3, 2}, {100, 1}, {7, 7, 1, 3},
			{math.MaxUint32, math.MaxUint32 - 1, math.MaxUint32 - 2}, {math.MaxUint32, 1 << 31, 1}, {1},
		} {
			const draws = 100_000
			var sum float64
			for _, w := range weights {
				sum += float64(w)
			}
			picked := count(draw(scheduled(p, nil, weights...), draws))
			var chi2 float64
			for i, w := range weights {
				want := draws * float64(w) / sum
				diff := float64(picked[string(rune('a'+i))]) - want
				chi2 += diff * diff / max(want, 1)
			}
			// With up to 3 degrees of freedom, 40 is exceeded once in 10⁸ runs.
			if chi2 > 40 {
				t.Errorf("%s: weights %v: chi² = %.1f, drawn %v", p.name(), weights, chi2, picked)
			}
		}
	}
}
