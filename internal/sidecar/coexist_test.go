package sidecar

import (
	"strings"
	"testing"

	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/wechat/wechattest"
)

// A service with WxJava finds the current tokens in its own Redis, before and
// after a reload that moves them, and one that refreshes by itself is named.
func TestCoexistence(t *testing.T) {
	first, second := redistest.Start(t), redistest.Start(t)
	w := newWorld(t, `coexistence: {wxjava_redis_url: "`+first.URL()+`"}`).start().ready()
	const componentKey = "wx:open:wechat_component_access_token:" + wechattest.DefaultComponentAppID
	live := func() string {
		t.Helper()
		tokens := w.sim.LiveTokens(wechattest.KindComponent, wechattest.DefaultComponentAppID)
		if len(tokens) == 0 {
			t.Fatal("there is no token")
		}
		return tokens[len(tokens)-1]
	}
	holds := func(srv *redistest.Server, key string) bool {
		return strings.Contains(srv.Talk("GET "+key), live())
	}
	if _, _, err := w.call(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token is published", func() bool { return holds(first, componentKey) })
	if _, body := w.get("metrics", "/metrics"); strings.Contains(body, `lingpai_published_tokens_total{result="written"} 0`) {
		t.Error("it is not counted")
	}
	w.set(`coexistence: {wxjava_redis_url: "` + second.URL() + `", wxjava_key_prefix: ""}`)
	if err := w.sidecar.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token is published elsewhere", func() bool {
		return holds(second, strings.TrimPrefix(componentKey, "wx:open:"))
	})
	w.set(`coexistence: {wxjava_redis_url: "` + second.URL() + `", wxjava_key_prefix: "wechat_component_access_token"}`)
	if err := w.sidecar.Reload(); err == nil || !strings.Contains(err.Error(), "coexistence") {
		t.Errorf("a prefix that is a whole key: %v", err)
	}
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	for _, value := range w.sim.Secrets() {
		if strings.Contains(w.log.String(), value) {
			t.Errorf("the log holds the secret %.8s…", value)
		}
	}
}
