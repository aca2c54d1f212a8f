package storecmd

import (
	"fmt"
	"io"
	"sync"
)

// progressStep is after how many records a line is printed.
const progressStep = 50_000

// progress tells of records that are done, when there are many. It is safe for
// concurrent use.
type progress struct {
	w    io.Writer
	what string
	of   int // 0 if not known

	mu      sync.Mutex
	records int
}

// one more record is done.
func (p *progress) one() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to(p.records + 1)
}

// reached is called with the number of records done.
func (p *progress) reached(records int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to(records)
}

func (p *progress) to(records int) {
	if records/progressStep > p.records/progressStep {
		if p.of > 0 {
			fmt.Fprintf(p.w, "%d of %d records %s\n", records, p.of, p.what)
		} else {
			fmt.Fprintf(p.w, "%d records %s\n", records, p.what)
		}
	}
	p.records = records
}
