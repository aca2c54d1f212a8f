package store

// Add adds n to the count of state. A state that is none of the three is not
// counted.
func (c *Counts) Add(state State, n int) {
	switch state {
	case StateActive:
		c.Active += n
	case StateReauthorize:
		c.Reauthorize += n
	case StateUnauthorized:
		c.Unauthorized += n
	}
}
