//go:build race

package tokens

// raceEnabled: the race detector allocates.
const raceEnabled = true
