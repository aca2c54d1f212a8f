package wechattest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestMessageXML(t *testing.T) {
	s := newSim(t)
	s.AddAuthorizer(authorizerA, WithUserName("gh_3c884a361561"))
	for name, c := range map[string]struct {
		message Message
		has     []string
		lacks   string
	}{
		"text": {Message{Text: "a]]>b", OpenID: "oUser"}, []string{"<ToUserName><![CDATA[gh_3c884a361561]]>", "<FromUserName><![CDATA[oUser]]>",
			"<MsgType><![CDATA[text]]>", "<Content><![CDATA[a]]]]><![CDATA[>b]]>", "<MsgId>2"}, "<Event>"},
		"image": {Message{MsgType: "image", Fields: []Field{{Name: "PicUrl", Value: "u"}}},
			[]string{"<MsgType><![CDATA[image]]>", "<PicUrl><![CDATA[u]]>", "<MsgId>2", "<FromUserName><![CDATA[o"}, "<Content>"},
		"event": {Message{Event: "subscribe", Fields: []Field{{Name: "Latitude", Value: "1.5", Number: true}}},
			[]string{"<MsgType><![CDATA[event]]>", "<Event><![CDATA[subscribe]]>", "<Latitude>1.5</Latitude>"}, "<MsgId>"},
		"xml": {Message{XML: "<xml/>", Text: "x"}, []string{"<xml/>"}, "Content"},
	} {
		c.message.AppID = authorizerA
		got := string(s.MessageXML(c.message))
		for _, want := range c.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %s: %s", name, want, got)
			}
		}
		if strings.Contains(got, c.lacks) {
			t.Errorf("%s has %s: %s", name, c.lacks, got)
		}
	}
}

// A load keeps its connections, and tells what became of each message.
func TestPushMessages(t *testing.T) {
	var connections, n atomic.Int64
	var mu sync.Mutex
	paths := map[string]int{}
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths[r.URL.Path]++
		mu.Unlock()
		if n.Add(1)%10 == 0 {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	ts.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	ts.Start()
	defer ts.Close()
	s := newSimWith(t, Options{MessageURL: ts.URL + "/$APPID$"}, func(k *Knobs) { k.MessageAttempts = 1 })
	report, err := s.PushMessages(t.Context(), Load{
		Messages: []Message{{AppID: authorizerA, Text: "a"}, {AppID: authorizerB, Event: "b"}}, Count: 100, Concurrency: 4,
	})
	if err != nil || report.Sent != 100 || report.Acknowledged != 90 || report.Replied != 0 || report.Errors["HTTP status 418"] != 10 || report.Duration <= 0 {
		t.Errorf("%+v %v", report, err)
	}
	if paths["/"+authorizerA] != 50 || paths["/"+authorizerB] != 50 {
		t.Errorf("paths %v", paths)
	}
	if len(s.Pushes()) != 100 {
		t.Errorf("%d pushes", len(s.Pushes()))
	}
	if got := connections.Load(); got > 50 { // a worker may dial while its last connection is being put back
		t.Errorf("%d connections", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := s.PushMessages(ctx, Load{Messages: []Message{{AppID: authorizerA}}, Count: 100}); err != nil || report.Sent != 0 {
		t.Errorf("after the end %+v %v", report, err)
	}
	for _, bad := range []Load{{Count: 1}, {Messages: []Message{{}}, Count: -1}, {Messages: []Message{{}}, Count: maxLoad + 1}, {Messages: []Message{{}}, Count: 1, Concurrency: 1001}} {
		if _, err := s.PushMessages(t.Context(), bad); err == nil {
			t.Errorf("%+v was sent", bad)
		}
	}
}

// BenchmarkPushMessage is what one message costs beside the network.
func BenchmarkPushMessage(b *testing.B) {
	s := New(Options{Seed: 1, MessageURL: "http://platform.test/$APPID$", Client: &http.Client{Transport: answerEmpty{}}})
	defer s.Close()
	m := Message{AppID: authorizerA, Text: "hello"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.PushMessage(b.Context(), m.AppID, s.MessageXML(m)); err != nil {
			b.Fatal(err)
		}
	}
}

type answerEmpty struct{}

func (answerEmpty) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
}
