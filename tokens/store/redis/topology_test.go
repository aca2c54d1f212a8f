package redis

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/store/storetest"
)

func TestCluster(t *testing.T) {
	port, bus := redistest.FreePort(t), redistest.FreePort(t)
	srv := redistest.Start(t, "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", bus,
		"--cluster-announce-ip", "127.0.0.1", "--cluster-config-file", "nodes.conf")
	srv.Must("CLUSTER ADDSLOTSRANGE 0 16383")
	eventually(t, "the cluster is up", func() bool { return strings.Contains(srv.Talk("CLUSTER INFO"), "cluster_state:ok") })
	url := "redis+cluster://127.0.0.1:" + port
	n := 0
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		n++
		prefix := fmt.Sprintf("t%d:", n)
		again := func() store.Store { return openStore(t, url, prefix) }
		return again(), again
	})
	storetest.RunShared(t, func(t *testing.T) (a, b store.Shared) {
		n++
		prefix := fmt.Sprintf("t%d:", n)
		return openStore(t, url, prefix), openStore(t, url, prefix)
	})
	a := openStore(t, url, "p:")
	// All keys of a prefix are in one slot.
	slots := map[int64]bool{}
	for _, key := range []string{
		a.keys.schema, a.keys.counts, a.keys.identity, a.keys.record("authorizer", "wx1"), a.keys.record("account", "}{"),
		a.keys.lease("l"), a.keys.note("n"),
	} {
		slot, err := a.client.Do(t.Context(), a.client.B().ClusterKeyslot().Key(key).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		slots[slot] = true
	}
	if len(slots) != 1 {
		t.Errorf("slots %v", slots)
	}
}

func TestSentinelFailover(t *testing.T) {
	master, replica, watcher := redistest.FreePort(t), redistest.FreePort(t), redistest.FreePort(t)
	first := redistest.Start(t, "--port", master, "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
	second := redistest.Start(t, "--port", replica, "--bind", "127.0.0.1", "--replicaof", "127.0.0.1 "+master)
	eventually(t, "the replica follows", func() bool { return strings.Contains(second.Talk("INFO replication"), "master_link_status:up") })
	guard := redistest.New(t)
	conf := filepath.Join(guard.Dir(), "sentinel.conf")
	text := "sentinel monitor main 127.0.0.1 " + master + " 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	guard.SetArgs("--port", watcher, "--bind", "127.0.0.1")
	guard.StartAs(conf, "--sentinel")
	eventually(t, "the sentinel knows the replica", func() bool { return strings.Contains(guard.Talk("INFO sentinel"), "slaves=1") })

	url := "redis+sentinel://127.0.0.1:" + watcher + "/main"
	a, b := openStore(t, url, "p:"), openStore(t, url, "p:")
	seen := watch(t, b)
	if _, err := a.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is noticed", func() bool { return len(seen.all()) == 1 })
	eventually(t, "the change is replicated", func() bool { return strings.HasPrefix(second.Talk("EXISTS "+a.keys.counts), ":1") })

	first.Kill()
	eventually(t, "the failover begins", func() bool { return strings.HasPrefix(guard.Talk("SENTINEL FAILOVER main"), "+OK") })
	eventually(t, "writes go on", func() bool {
		_, err := a.UpdateAuthorizer(t.Context(), "wx1", increment)
		return err == nil
	})
	if r, err := a.Authorizer(t.Context(), "wx1"); err != nil || r.Token.Generation < 2 {
		t.Errorf("generation %d, %v", r.Token.Generation, err)
	}
	eventually(t, "the interruption is told", func() bool { return seen.losses() > 1 })
	before := len(seen.all())
	eventually(t, "changes are noticed again", func() bool {
		_, err := a.UpdateAuthorizer(t.Context(), "wx1", increment)
		return err == nil && len(seen.all()) > before
	})
}
