package importer

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is one line on a terminal that tells how far a long run is. Anywhere
// else it says nothing.
type progress struct {
	w     io.Writer
	last  time.Time
	shown bool
}

const (
	progressFrom  = 1000                   // accounts: fewer are done before one can read
	progressEvery = 100 * time.Millisecond // redrawn
	barWidth      = 30
)

func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	if !ok {
		return &progress{}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &progress{}
	}
	return &progress{w: w}
}

// show tells that so many are done, of a number that is 0 if not known.
func (p *progress) show(what string, done, of int) {
	if p.w == nil || max(done, of) < progressFrom || time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.shown = time.Now(), true
	if of < done {
		fmt.Fprintf(p.w, "\r\x1b[K%s: %d", what, done)
		return
	}
	full := barWidth * done / of
	fmt.Fprintf(p.w, "\r\x1b[K%-13s [%s%s] %d of %d", what, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), done, of)
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
