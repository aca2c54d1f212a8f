package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNothingPrintsTheValue(t *testing.T) {
	const value = "s3cr3t-value"
	type holder struct {
		Name string
		S    String
		P    *String
	}
	s := New(value)
	h := holder{"n", s, &s}

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s, "h", h, "p", &s)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "s", s, "h", h, "p", &s)
	jsonOut, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	xmlOut, err := xml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(jsonOut) + string(xmlOut) +
		fmt.Sprint(s, &s, h) + fmt.Errorf("wrapped: %v", s).Error()
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "T"} {
		out += fmt.Sprintf("%"+verb, s) + fmt.Sprintf("%"+verb, h)
	}
	for _, leaked := range []string{value, fmt.Sprintf("%x", value)} {
		if strings.Contains(out, leaked) {
			t.Errorf("%q is in %s", leaked, out)
		}
	}
	if !strings.Contains(out, Redacted) {
		t.Errorf("no %s in %s", Redacted, out)
	}
}

func TestValue(t *testing.T) {
	if got := New("a").Reveal(); got != "a" {
		t.Errorf("Reveal = %q", got)
	}
	if !(String{}).Empty() || New("a").Empty() {
		t.Error("Empty is wrong")
	}
	if !New("a").Equal(New("a")) || New("a").Equal(New("b")) || New("a").Equal(String{}) {
		t.Error("Equal is wrong")
	}
	if got := (String{}).String(); got != "" {
		t.Errorf("empty secret prints %q", got)
	}
}
