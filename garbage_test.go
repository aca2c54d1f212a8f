package main

import "testing"

func TestWorthGivingBack(t *testing.T) {
	const mib = 1 << 20
	f := func(name string, want bool, since, lately, live int64) {
		t.Helper()
		if got := worthGivingBack(since, lately, live); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	f("a burst that has ended", true, 900*mib, 0, 50*mib)
	f("a burst that goes on", false, 900*mib, 2*mib, 50*mib)
	f("a few refreshes", false, 3*mib, 0, 5*mib)
	f("a few refreshes more", true, 4*mib, mib/2, 5*mib)
	f("a sixteenth of much", false, 40*mib, mib/2, 700*mib)
	f("more than that", true, 44*mib, mib/2, 700*mib)
	f("nothing", false, 0, 0, 0)
}
