//go:build race

package msgcrypt

// raceEnabled: the race detector allocates.
const raceEnabled = true
