package bolt

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// crashPath, if set in the environment, makes the test binary the writer that
// is to be killed, on the file named.
const crashPath = "LINGPAI_BOLT_CRASH_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// refreshToken is what the writer stores with a generation.
func refreshToken(appID string, generation uint64) string {
	return strings.Repeat(fmt.Sprintf("%s/%d ", appID, generation), 20)
}

// writeUntilKilled writes from several goroutines, so that transactions are
// shared, and prints a line for each write after it was acknowledged.
func writeUntilKilled(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	failed := make(chan error)
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				appID := fmt.Sprintf("wx%d-%d", w, n%50)
				a, err := s.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
					a.State = store.StateActive
					a.Token.Generation++
					a.RefreshToken = secret.New(refreshToken(appID, a.Token.Generation))
					return nil
				})
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("authorizer %s %d\n", appID, a.Token.Generation)
				if n%5 != 0 {
					continue
				}
				p, _, err := s.AddPush(ctx, store.Push{Digest: fmt.Sprintf("%d-%d-%d", os.Getpid(), w, n)})
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("push %s %d\n", p.Digest, p.Seq)
			}
		}()
	}
	return <-failed
}

// TestKilledProcessLosesNothing kills a writer at random moments. That shows
// that every state of the file is a whole one and that acknowledgement comes
// after the write; it cannot show the fsync, since the page cache survives.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	acked := map[string]uint64{} // generation by app id, of all rounds
	pushes := map[uint64]string{}
	begun := time.Now()
	rounds := 0
	for ; rounds < 10 && (rounds < 3 || time.Since(begun) < 5*time.Second); rounds++ {
		runUntilKilled(t, path, acked, pushes)
		checkFile(t, path, acked, pushes)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds in %v, %d authorizers and %d pushes acknowledged",
		rounds, time.Since(begun).Round(time.Millisecond), len(acked), len(pushes))
}

// runUntilKilled adds to acked and pushes what a writer acknowledged before it
// was killed.
func runUntilKilled(t *testing.T, path string, acked map[string]uint64, pushes map[uint64]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashPath+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The clock starts with the first write, however slow the start is.
	var first sync.Once
	stop := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer stop.Stop()

	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line without its end was not printed in full
			break
		}
		first.Do(func() { stop.Reset(time.Duration(rand.Int64N(int64(400 * time.Millisecond)))) })
		var kind, name string
		var number uint64
		if _, err := fmt.Sscan(line, &kind, &name, &number); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		if kind == "push" {
			if was, ok := pushes[number]; ok {
				t.Errorf("Seq %d was given to %s and to %s", number, was, name)
			}
			pushes[number] = name
			continue
		}
		// Lines of different workers may pass each other, but each app id has
		// one worker.
		if number <= acked[name] {
			t.Errorf("%s: generation %d after %d", name, number, acked[name])
		}
		acked[name] = number
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the writer ended by itself: %v\n%s", err, stderr.String())
	}
}

// checkFile looks for all that was acknowledged, and for damage.
func checkFile(t *testing.T, path string, acked map[string]uint64, pushes map[uint64]string) {
	t.Helper()
	s := openAt(t, path)
	defer s.Close()
	if err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("file: %v", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	all, err := s.Authorizers(t.Context(), "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]uint64{}
	for _, a := range all {
		stored[a.AppID] = a.Token.Generation
		if a.RefreshToken.Reveal() != refreshToken(a.AppID, a.Token.Generation) {
			t.Errorf("%s: the refresh token is not that of generation %d", a.AppID, a.Token.Generation)
		}
	}
	for appID, generation := range acked {
		// One more may have been written and not printed.
		if got := stored[appID]; got < generation || got > generation+1 {
			t.Errorf("%s: generation %d was acknowledged, %d is stored", appID, generation, got)
		}
		acked[appID] = stored[appID]
	}
	if n, err := s.CountAuthorizers(t.Context()); err != nil || n.Active != len(all) {
		t.Errorf("%d authorizers, %d counted, %v", len(all), n.Active, err)
	}
	pending, err := s.Pushes(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]string{}
	for _, p := range pending {
		found[p.Seq] = p.Digest
	}
	for seq, digest := range pushes {
		if found[seq] != digest {
			t.Errorf("push %d %s was acknowledged; stored is %q", seq, digest, found[seq])
		}
	}
}
