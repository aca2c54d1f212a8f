//go:build race

package route

// raceEnabled: the race detector allocates.
const raceEnabled = true
