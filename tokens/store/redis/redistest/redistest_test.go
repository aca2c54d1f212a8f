package redistest

import (
	"strings"
	"testing"
	"time"
)

func TestServer(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s.Must("SET a 1")
	s.Kill()
	if answer := s.Talk("PING"); answer != "" {
		t.Errorf("a killed server answers %q", answer)
	}
	s.Start()
	if answer := s.Must("GET a"); !strings.Contains(answer, "1") {
		t.Errorf("it came back with %q", answer)
	}
	s.Freeze()
	began := time.Now()
	if answer := s.Talk("PING"); answer != "" {
		t.Errorf("a frozen server answers %q after %s", answer, time.Since(began))
	}
	s.Thaw()
	if answer := s.Must("PING"); answer != "+PONG\r\n" {
		t.Errorf("a thawed server answers %q", answer)
	}
	s.Kill()
	s.Kill()
	s.Wipe()
	s.Start()
	if answer := s.Must("GET a"); answer != "$-1\r\n" {
		t.Errorf("a wiped server has %q", answer)
	}
}
