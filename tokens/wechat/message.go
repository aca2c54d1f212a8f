package wechat

import (
	"context"
	"net/url"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// Message is a push to the message URL of an account, as far as lingpai reads it.
// What it holds is users': never log it.
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_standard_messages.html
type Message struct {
	ToUserName   string // the account's gh_ id
	FromUserName string // the user's OpenID
	CreateTime   time.Time
	MsgType      string
	Event        string
	Content      secret.String
}

// ParseMessage reads the decrypted XML of a message or event; the error is
// ErrNotXML.
func ParseMessage(message []byte) (Message, error) {
	var m Message
	err := fields(message, func(name, value string) {
		switch name {
		case "ToUserName":
			m.ToUserName = value
		case "FromUserName":
			m.FromUserName = value
		case "CreateTime":
			m.CreateTime = unixTime(value)
		case "MsgType":
			m.MsgType = strings.ToLower(value)
		case "Event":
			m.Event = value
		case "Content":
			m.Content = secret.New(value)
		}
	})
	return m, err
}

// SendText sends a user a customer-service message, by the account's token. No
// error shows text.
// https://developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage
func (c *Client) SendText(ctx context.Context, token secret.String, openID, text string) error {
	body := map[string]any{"touser": openID, "msgtype": "text", "text": map[string]string{"content": text}}
	query := "?access_token=" + url.QueryEscape(token.Reveal())
	return c.send(ctx, "/cgi-bin/message/custom/send", query, body, &struct{}{}, token, secret.New(text), secret.New(openID))
}
