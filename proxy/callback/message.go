package callback

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// replyWithin is how long before the answer is due an app's reply must be there.
const replyWithin = 300 * time.Millisecond

// message reads a push to the message-and-event URL of an account.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
func (h *Handler) message(r *http.Request, message []byte) (order, error) {
	o := order{infoType: "message"}
	parsed, err := wechat.ParseMessage(message)
	if err != nil {
		return o, errNoXML
	}
	m := newMessage(r.PathValue("appid"), message)
	config := h.config.Load()
	if config.ReleaseTest && tokens.ReleaseTestAccount(m.AppID) {
		if keep := h.releaseTest(config, parsed); keep != nil {
			o.keep = keep
			return o, nil
		}
	}
	if h.apps != nil {
		o.keep = func(ctx context.Context) (outcome, error) { return h.deliver(ctx, config, m) }
	}
	return o, nil
}

// deliver has a message delivered to apps, and answers with what the app says that
// replies.
func (h *Handler) deliver(ctx context.Context, config *Config, m Message) (outcome, error) {
	end := outcome{result: "ok"}
	if err := h.apps.Accept(ctx, m); err != nil {
		return end, err
	}
	due, _ := ctx.Deadline()
	replying, cancel := context.WithDeadline(ctx, due.Add(-replyWithin))
	defer cancel()
	answer, ok := h.apps.Reply(replying, m)
	// An app that has nothing to say may say so in WeChat's word.
	if text := strings.TrimSpace(string(answer)); !ok || text == "" || text == "success" {
		return end, nil
	}
	sealed, err := config.seal(answer)
	if err != nil { // a key that opened the push seals the answer
		h.log.Error("the reply of an app could not be encrypted", "error", err)
		return end, nil
	}
	end.answer = &sealed
	return end, nil
}

// seal encrypts an answer as WeChat wants a passive reply.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Technical_Plan.html
func (c *Config) seal(answer []byte) (string, error) {
	var random [16]byte
	rand.Read(random[:])
	encrypt, err := c.Keys[0].Encrypt(random, answer, c.AppID)
	if err != nil {
		return "", err
	}
	timestamp, nonce := strconv.FormatInt(time.Now().Unix(), 10), rand.Text()
	return fmt.Sprintf("<xml><Encrypt><![CDATA[%s]]></Encrypt><MsgSignature><![CDATA[%s]]></MsgSignature><TimeStamp>%s</TimeStamp><Nonce><![CDATA[%s]]></Nonce></xml>",
		encrypt, msgcrypt.Signature(c.Token.Reveal(), timestamp, nonce, encrypt), timestamp, nonce), nil
}

// What the release test sends, and what it wants to read.
const (
	releaseText     = "TESTCOMPONENT_MSG_TYPE_TEXT"
	releaseCode     = "QUERY_AUTH_CODE:"
	releaseCallback = "_callback"
	releaseEvent    = "from_callback"
)

// releaseTest answers a message of WeChat's release test; nil if it is another one.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html
func (h *Handler) releaseTest(config *Config, m wechat.Message) func(context.Context) (outcome, error) {
	say := func(text string) func(context.Context) (outcome, error) {
		return func(context.Context) (outcome, error) {
			sealed, err := config.seal(textReply(m, text))
			h.log.Info("release test: a message answered", "msg_type", m.MsgType)
			return outcome{result: "ok", answer: &sealed}, err
		}
	}
	content := m.Content.Reveal()
	code, asksForCode := strings.CutPrefix(content, releaseCode)
	switch {
	case m.MsgType == "event":
		return say(m.Event + releaseEvent)
	case m.MsgType == "text" && content == releaseText:
		return say(releaseText + releaseCallback)
	case m.MsgType == "text" && asksForCode && code != "":
		return func(context.Context) (outcome, error) {
			if !h.receiver.AnswerReleaseTest(m.FromUserName, secret.New(code)) {
				return outcome{}, errStopping
			}
			return outcome{result: "ok", answer: new(string)}, nil // it wants nothing at all
		}
	}
	return nil
}

// textReply is a passive reply to m.
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Passive_user_reply_message.html
func textReply(m wechat.Message, text string) []byte {
	return fmt.Appendf(nil, "<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content></xml>",
		cdata(m.FromUserName), cdata(m.ToUserName), time.Now().Unix(), cdata(text))
}

// cdata makes text fit between the brackets of CDATA.
func cdata(text string) string { return strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") }
