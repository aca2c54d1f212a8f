//go:build race

package metrics

// raceEnabled: the race detector allocates.
const raceEnabled = true
