//go:build race

package callback

// raceEnabled: the race detector allocates.
const raceEnabled = true
