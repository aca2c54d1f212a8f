package wechattest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Message is a user's message or event to an account, as it goes to the
// message URL.
type Message struct {
	AppID   string  `json:"app_id"`
	OpenID  string  `json:"open_id"`  // the user; "": one made from the appid
	Text    string  `json:"text"`     // Content of a text message
	MsgType string  `json:"msg_type"` // "": text, or event if Event is set
	Event   string  `json:"event"`
	Fields  []Field `json:"fields"` // after these
	XML     string  `json:"xml"`    // in place of all but AppID
}

// MessageXML writes the plain XML of a message. Events have no MsgId.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
func (s *Server) MessageXML(m Message) []byte {
	if m.XML != "" {
		return []byte(m.XML)
	}
	kind := m.MsgType
	if kind == "" {
		kind = "text"
		if m.Event != "" {
			kind = "event"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := []Field{
		{Name: "ToUserName", Value: s.userNameOf(m.AppID)},
		{Name: "FromUserName", Value: cmp.Or(m.OpenID, openID(m.AppID, "message"))},
		{Name: "CreateTime", Value: strconv.FormatInt(time.Now().Unix(), 10), Number: true},
		{Name: "MsgType", Value: kind},
	}
	if kind == "text" {
		fields = append(fields, Field{Name: "Content", Value: m.Text})
	}
	if kind == "event" {
		fields = append(fields, Field{Name: "Event", Value: m.Event})
	}
	fields = append(fields, m.Fields...)
	if kind != "event" {
		fields = append(fields, Field{Name: "MsgId", Value: "2" + s.values.digits(16), Number: true})
	}
	return writeXML(fields, "</xml>")
}

// TextMessage writes the plain XML of a user's text message to an authorizer.
func (s *Server) TextMessage(appID, openID, content string) []byte {
	return s.MessageXML(Message{AppID: appID, OpenID: openID, Text: content})
}

// Load is many messages: each Message is sent in turn until Count were sent,
// Concurrency at a time.
type Load struct {
	Messages    []Message
	Count       int
	Concurrency int // 0: 1
}

// LoadReport is what became of a Load.
type LoadReport struct {
	Sent         int            `json:"sent"`
	Acknowledged int            `json:"acknowledged"`
	Replied      int            `json:"replied"` // with an encrypted reply that opened
	Duration     time.Duration  `json:"duration_ns"`
	Slowest      time.Duration  `json:"slowest_ns"`
	Errors       map[string]int `json:"errors"` // by text
	Replies      []string       `json:"replies,omitempty"`
}

// maxLoad bounds one Load.
const maxLoad = 1_000_000

// maxReplies bounds the replies that a report holds; Pushes has more.
const maxReplies = 100

// PushMessages pushes many messages over connections that are kept alive, each
// as PushMessage would. It ends early with ctx.
func (s *Server) PushMessages(ctx context.Context, load Load) (LoadReport, error) {
	workers := max(load.Concurrency, 1)
	switch {
	case len(load.Messages) == 0:
		return LoadReport{}, errors.New("there is no message to send")
	case load.Count < 0 || load.Count > maxLoad:
		return LoadReport{}, fmt.Errorf("count must be 0 to %d", maxLoad)
	case workers > 1000:
		return LoadReport{}, errors.New("concurrency must be at most 1000")
	}
	client, end := s.loadClient(workers)
	defer end()
	var (
		next   atomic.Int64
		mu     sync.Mutex
		report = LoadReport{Errors: map[string]int{}}
		group  sync.WaitGroup
		start  = time.Now()
	)
	for range min(workers, load.Count) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= load.Count {
					return
				}
				m := load.Messages[i%len(load.Messages)]
				p := s.messagePush(m.AppID, s.MessageXML(m))
				p.client = client
				record, err := s.deliver(ctx, p)
				mu.Lock()
				report.add(record, err)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	report.Duration = time.Since(start)
	return report, nil
}

func (r *LoadReport) add(record PushRecord, err error) {
	r.Sent++
	r.Slowest = max(r.Slowest, record.Duration)
	if err != nil {
		text := cmp.Or(record.Error, err.Error())
		if len(r.Errors) < maxReplies || r.Errors[text] > 0 {
			r.Errors[text]++
		}
		return
	}
	r.Acknowledged++
	if record.Replied() {
		r.Replied++
		if len(r.Replies) < maxReplies {
			r.Replies = append(r.Replies, record.Reply)
		}
	}
}

// Replied reports whether a message was answered with an encrypted reply that
// opened, which Reply then holds.
func (r PushRecord) Replied() bool {
	return r.Acknowledged && r.Kind == "message" && r.Reply != "" && r.Reply != strings.TrimSpace(r.Answer)
}

// loadClient gives a client that keeps connections, unless the Options brought
// one of their own.
func (s *Server) loadClient(connections int) (client *http.Client, end func()) {
	if !s.ownClient {
		return s.client, func() {}
	}
	c := newPushClient()
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}
	c.Transport = transport
	return c, transport.CloseIdleConnections
}

// messageRequest is the body of the control API's message: app_ids, count and
// concurrency make many of it.
type messageRequest struct {
	Message
	AppIDs      []string `json:"app_ids"`
	Count       int      `json:"count"`
	Concurrency int      `json:"concurrency"`
}

func (s *Server) controlMessage(ctx context.Context, in messageRequest) (any, error) {
	if in.AppID != "" {
		in.AppIDs = append([]string{in.AppID}, in.AppIDs...)
	}
	if len(in.AppIDs) == 0 {
		return nil, errors.New("app_id is missing")
	}
	if in.Count == 0 && len(in.AppIDs) == 1 {
		in.AppID = in.AppIDs[0]
		return s.PushMessage(ctx, in.AppID, s.MessageXML(in.Message))
	}
	load := Load{Count: in.Count, Concurrency: in.Concurrency}
	if load.Count == 0 {
		load.Count = len(in.AppIDs)
	}
	for _, appID := range in.AppIDs {
		m := in.Message
		m.AppID = appID
		load.Messages = append(load.Messages, m)
	}
	return s.PushMessages(ctx, load)
}

func (s *Server) messageOperations() []operation {
	return []operation{
		write("POST", "message", "pushes a message or an event of a user to the message URL, or count of them, and tells the decrypted reply",
			`{"app_id":"wx…","open_id":"o…","text":"hello","msg_type":"image","event":"subscribe","fields":[{"name":"PicUrl","value":"…"}],"xml":"in place of open_id to fields","app_ids":["wx…"],"count":1000,"concurrency":8}`,
			s.controlMessage),
		write("POST", "release-test", "plays WeChat's release test (全网发布检测) against the platform and reports",
			`{"pair":0,"wait":"5s","without_messages":false,"with_event":false}`,
			func(ctx context.Context, in ReleaseTest) (any, error) { return s.RunReleaseTest(ctx, in) }),
	}
}
