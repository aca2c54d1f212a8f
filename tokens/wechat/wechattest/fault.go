package wechattest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FaultKind says how a call is broken.
type FaultKind string

// The kinds of faults. Unless said otherwise the call has no effect.
const (
	FaultErrcode   FaultKind = "errcode"   // answers Errcode and Errmsg
	FaultStatus    FaultKind = "status"    // answers HTTP status Status with an HTML page
	FaultDelay     FaultKind = "delay"     // waits for Delay, then goes on as usual
	FaultCut       FaultKind = "cut"       // closes the connection
	FaultReset     FaultKind = "reset"     // closes it by a TCP reset, where it is TCP
	FaultLost      FaultKind = "lost"      // the call has its effect, then the connection is closed
	FaultGarbage   FaultKind = "garbage"   // answers something that is no JSON
	FaultEmpty     FaultKind = "empty"     // answers an empty body
	FaultTruncated FaultKind = "truncated" // has its effect; closes half way through the answer
	FaultHuge      FaultKind = "huge"      // answers Size bytes of one JSON object
)

var faultKinds = []FaultKind{
	FaultErrcode, FaultStatus, FaultDelay, FaultCut, FaultReset, FaultLost,
	FaultGarbage, FaultEmpty, FaultTruncated, FaultHuge,
}

// Fault breaks calls. Zero fields do not limit it: the zero Path matches every
// path, zero Times and For mean for ever, zero Probability means always.
//
// FaultCut, FaultReset, FaultLost and FaultTruncated end the handler with
// panic(http.ErrAbortHandler), so they need a real HTTP server.
type Fault struct {
	ID          int       `json:"id"`     // set by AddFault
	Path        string    `json:"path"`   // exact, or a prefix that ends with *
	AppID       string    `json:"app_id"` // the account the call is about, as Call.AppID
	Kind        FaultKind `json:"kind"`
	Times       int       `json:"times"`
	For         Duration  `json:"for"` // from when it was added
	Probability float64   `json:"probability"`

	Errcode     int      `json:"errcode"`
	Errmsg      string   `json:"errmsg"` // "": WeChat's text for the errcode
	Status      int      `json:"status"` // 0: 502
	Delay       Duration `json:"delay"`
	Size        int64    `json:"size"`         // of FaultHuge; 0: 16 MiB
	AfterEffect bool     `json:"after_effect"` // errcode, status, delay, garbage, empty, huge: let the call have its effect first

	Hits  int       `json:"hits"` // how often it struck
	Added time.Time `json:"added"`
}

// AddFault puts a fault to work and returns its id. Of several that match a
// call the oldest strikes; delays add up with others. It panics if the kind is
// unknown.
func (s *Server) AddFault(f Fault) int {
	id, err := s.addFault(f)
	if err != nil {
		panic("wechattest: " + err.Error())
	}
	return id
}

func (s *Server) addFault(f Fault) (int, error) {
	if !slices.Contains(faultKinds, f.Kind) {
		return 0, fmt.Errorf("fault kind %q is not one of %q", f.Kind, faultKinds)
	}
	if f.Kind == FaultErrcode && f.Errcode == 0 {
		return 0, fmt.Errorf("a fault of kind errcode needs an errcode other than 0")
	}
	if f.Kind == FaultDelay && f.Delay == 0 {
		return 0, fmt.Errorf("a fault of kind delay needs a delay")
	}
	if f.Probability < 0 || f.Probability > 1 || f.Times < 0 || f.Size < 0 {
		return 0, fmt.Errorf("a fault needs a probability of 0 to 1, and times and size not below 0")
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return 0, fmt.Errorf("a fault needs a status of 200 to 599")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastFaultID++
	f.ID, f.Hits, f.Added = s.lastFaultID, 0, time.Now()
	s.faults = append(s.faults, &f)
	return f.ID, nil
}

// RemoveFault removes a fault and reports whether it was there.
func (s *Server) RemoveFault(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool { return f.ID == id })
	return len(s.faults) < n
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Faults returns all faults, spent ones too.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Fault{}
	for _, f := range s.faults {
		out = append(out, *f)
	}
	return out
}

func (f *Fault) matches(path, appID string, now time.Time) bool {
	if f.Times > 0 && f.Hits >= f.Times || f.For > 0 && now.Sub(f.Added) >= time.Duration(f.For) {
		return false
	}
	if prefix, ok := strings.CutSuffix(f.Path, "*"); ok {
		if !strings.HasPrefix(path, prefix) {
			return false
		}
	} else if f.Path != "" && f.Path != path {
		return false
	}
	return f.AppID == "" || f.AppID == appID
}

// struck is what the faults make of one call.
type struck struct {
	before, after time.Duration
	fault         *Fault // nil: none but delays
}

// strike finds the faults that hit a call, and counts them.
func (s *Server) strike(path, appID string) struck {
	var out struck
	now := time.Now()
	for _, f := range s.faults {
		if f.Kind != FaultDelay && out.fault != nil || !f.matches(path, appID, now) {
			continue
		}
		if f.Probability > 0 && s.values.rng.Float64() >= f.Probability {
			continue
		}
		f.Hits++
		switch {
		case f.Kind != FaultDelay:
			hit := *f
			out.fault = &hit
		case f.AfterEffect:
			out.after += time.Duration(f.Delay)
		default:
			out.before += time.Duration(f.Delay)
		}
	}
	return out
}

// hasEffect reports whether the call is executed although it is broken.
func (f *Fault) hasEffect() bool {
	switch f.Kind {
	case FaultLost, FaultTruncated:
		return true
	case FaultCut, FaultReset:
		return false
	default:
		return f.AfterEffect
	}
}
