package wechattest

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"time"
)

// releaseText is case 2.
func (s *Server) releaseText(ctx context.Context, account LoginAccount) error {
	const text = "TESTCOMPONENT_MSG_TYPE_TEXT"
	record, err := s.releaseMessage(ctx, Message{AppID: account.AppID, Text: text})
	if err != nil {
		return err
	}
	return checkTextReply(record, account, text+"_callback")
}

// releaseEvent is the event that older runs sent.
func (s *Server) releaseEvent(ctx context.Context, account LoginAccount) error {
	record, err := s.releaseMessage(ctx, Message{AppID: account.AppID, Event: "LOCATION", Fields: []Field{
		{Name: "Latitude", Value: "23.137466", Number: true},
		{Name: "Longitude", Value: "113.352425", Number: true},
		{Name: "Precision", Value: "119.385040", Number: true},
	}})
	if err != nil {
		return err
	}
	return checkTextReply(record, account, "LOCATIONfrom_callback")
}

// checkTextReply wants an encrypted passive text reply that goes back to the
// tester.
//
// https://developers.weixin.qq.com/doc/service/en/guide/product/message/Passive_user_reply_message.html
func checkTextReply(record PushRecord, account LoginAccount, want string) error {
	if !record.Replied() {
		return fmt.Errorf("answered %q, not an encrypted text reply", short(record.Answer))
	}
	var reply struct {
		ToUserName, FromUserName, MsgType, Content string
		CreateTime                                 int64
	}
	if err := xml.Unmarshal([]byte(record.Reply), &reply); err != nil {
		return fmt.Errorf("the reply is no XML: %w: %s", err, short(record.Reply))
	}
	for _, c := range []struct{ name, got, want string }{
		{"MsgType", reply.MsgType, "text"},
		{"Content", reply.Content, want},
		{"ToUserName", reply.ToUserName, releaseUser},
		{"FromUserName", reply.FromUserName, account.UserName},
	} {
		if c.got != c.want {
			return fmt.Errorf("the reply's %s is %q, want %q", c.name, short(c.got), c.want)
		}
	}
	if reply.CreateTime <= 0 {
		return errors.New("the reply has no CreateTime")
	}
	return nil
}

// releaseCode is case 3, and for the mini program case 4: the code is answered
// with nothing, exchanged, and sent back through the API.
func (s *Server) releaseCode(ctx context.Context, account LoginAccount, test ReleaseTest) error {
	s.mu.Lock()
	a := s.authorizers[account.AppID]
	if a == nil || !a.authorized {
		s.mu.Unlock()
		return errors.New("the account is no longer authorized")
	}
	g := &grant{appID: account.AppID, expires: time.Now().Add(time.Duration(s.knobs.AuthCodeLifetime))}
	code := s.newAuthCode(g)
	s.mu.Unlock()

	start := time.Now()
	record, err := s.releaseMessage(ctx, Message{AppID: account.AppID, Text: "QUERY_AUTH_CODE:" + code})
	if err != nil {
		return err
	}
	if record.Answer != "" {
		return fmt.Errorf("answered %q, not empty", short(record.Answer))
	}
	if !s.await(ctx, test.Wait, func() bool { return g.used }) {
		return fmt.Errorf("the code was not exchanged by api_query_auth within %v", time.Duration(test.Wait))
	}
	want := code + "_from_api"
	var last string
	if !s.await(ctx, test.Wait, func() bool { return s.customMessageSent(account.AppID, want, start, &last) }) {
		return fmt.Errorf("the code was exchanged, but %s", cmp.Or(last, fmt.Sprintf(
			"no customer-service message of the account came within %v", time.Duration(test.Wait))))
	}
	return nil
}

// customMessageSent looks for the message that a code asks for, among those an
// account sent since start. wrong tells what is wrong with the last other one.
func (s *Server) customMessageSent(appID, want string, start time.Time, wrong *string) bool {
	for _, m := range s.sent {
		if m.AppID != appID || m.Time.Before(start) {
			continue
		}
		var body struct {
			ToUser  string `json:"touser"`
			MsgType string `json:"msgtype"`
			Text    struct {
				Content string `json:"content"`
			} `json:"text"`
		}
		json.Unmarshal(m.Body, &body) // customSend takes nothing else
		switch {
		case body.ToUser != releaseUser:
			*wrong = fmt.Sprintf("the customer-service message's touser is %q, want %q", short(body.ToUser), releaseUser)
		case body.MsgType != "text":
			*wrong = fmt.Sprintf("the customer-service message's msgtype is %q, want text", short(body.MsgType))
		case body.Text.Content != want:
			*wrong = fmt.Sprintf("the customer-service message's content is %q, want the code and _from_api", short(strings.TrimSpace(body.Text.Content)))
		default:
			return true
		}
	}
	return false
}
