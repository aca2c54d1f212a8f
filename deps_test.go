package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// text/template finds methods by their names while it runs. In a program that
// holds it, the linker has to keep every exported method of every type that is in
// use, and the Redis client's command builder alone has thousands: the program
// was 30 MB large instead of 17, and took more memory at rest. Pages are made
// with internal/dom.
func TestNoTemplates(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "lingpai/internal/dom") {
		t.Fatalf("go list -deps names %d packages, not those of the program", len(deps))
	}
	for _, name := range []string{"text/template", "html/template"} {
		if slices.Contains(deps, name) {
			t.Errorf("%s is in the program, which nearly doubles its size: write HTML with internal/dom, and replace a dependency that brings it in (go list -deps -f '{{.ImportPath}} {{.Imports}}' . names who does)", name)
		}
	}
}
