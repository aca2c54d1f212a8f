//go:build race

package cache

// raceEnabled: the race detector allocates.
const raceEnabled = true
