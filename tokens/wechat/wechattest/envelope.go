package wechattest

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens/msgcrypt"
)

// Field is one element of a push's XML.
type Field struct {
	Name     string  `json:"name"`
	Value    string  `json:"value"`
	Number   bool    `json:"number"`   // no CDATA around Value
	Children []Field `json:"children"` // in place of Value
}

// EventXML writes the plain XML of a platform event.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func (s *Server) EventXML(infoType string, fields ...Field) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eventXML(infoType, fields)
}

func (s *Server) eventXML(infoType string, fields []Field) []byte {
	head := []Field{
		{Name: "AppId", Value: s.componentAppID},
		{Name: "CreateTime", Value: strconv.FormatInt(time.Now().Unix(), 10), Number: true},
		{Name: "InfoType", Value: infoType},
	}
	end := "</xml>"
	if s.knobs.XMLSlip {
		end = "<xml>"
	}
	return writeXML(append(head, fields...), end)
}

func writeXML(fields []Field, end string) []byte {
	var b bytes.Buffer
	b.WriteString("<xml>")
	writeFields(&b, fields)
	b.WriteString(end)
	return b.Bytes()
}

func writeFields(b *bytes.Buffer, fields []Field) {
	for _, f := range fields {
		fmt.Fprintf(b, "<%s>", f.Name)
		switch {
		case len(f.Children) > 0:
			writeFields(b, f.Children)
		case f.Number:
			xml.EscapeText(b, []byte(f.Value))
		default:
			b.WriteString("<![CDATA[" + strings.ReplaceAll(f.Value, "]]>", "]]]]><![CDATA[>") + "]]>")
		}
		fmt.Fprintf(b, "</%s>", f.Name)
	}
}

// userNameOf is the gh_ id of an account; one that the simulator does not know
// gets one made from its appid.
func (s *Server) userNameOf(appID string) string {
	if a := s.authorizers[appID]; a != nil {
		return a.userName
	}
	return userNameFrom(appID)
}

func userNameFrom(appID string) string { return "gh_" + strings.TrimPrefix(appID, "wx") }

// Sealing says with what a push is signed and encrypted.
type Sealing struct {
	AppID          string // at the tail of the plaintext; "": the component's
	Token          string // "": the message token
	EncodingAESKey string // "": the current key
	Timestamp      int64  // 0: now
	ToUserName     string // the body names this account instead of AppId, as messages do
	OpenID         string // in the query of a message
}

// BuildPush signs and encrypts a plain message as WeChat does and returns the
// query and the body of the request.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
func (s *Server) BuildPush(msg []byte) (query url.Values, body []byte) {
	query, body, _ = s.SealPush(msg, Sealing{})
	return query, body
}

// SealPush is BuildPush with another sealing: a wrong key, a foreign appid, an
// old timestamp. It fails only for an impossible key.
func (s *Server) SealPush(msg []byte, with Sealing) (query url.Values, body []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seal(msg, with)
}

func (s *Server) seal(msg []byte, with Sealing) (url.Values, []byte, error) {
	key := s.key
	if with.EncodingAESKey != "" {
		var err error
		if key, err = msgcrypt.ParseKey(with.EncodingAESKey); err != nil {
			return nil, nil, err
		}
	}
	if with.AppID == "" {
		with.AppID = s.componentAppID
	}
	if with.Token == "" {
		with.Token = s.messageToken
	}
	if with.Timestamp == 0 {
		with.Timestamp = time.Now().Unix()
	}
	random := [16]byte([]byte(s.values.hex(16)))
	encrypt, err := key.Encrypt(random, msg, with.AppID)
	if err != nil {
		return nil, nil, err
	}
	timestamp, nonce := strconv.FormatInt(with.Timestamp, 10), s.values.digits(9)
	query := url.Values{
		"signature":     {signature(with.Token, timestamp, nonce)},
		"timestamp":     {timestamp},
		"nonce":         {nonce},
		"encrypt_type":  {"aes"},
		"msg_signature": {msgcrypt.Signature(with.Token, timestamp, nonce, encrypt)},
	}
	first := Field{Name: "AppId", Value: s.componentAppID}
	if with.ToUserName != "" {
		first = Field{Name: "ToUserName", Value: with.ToUserName}
	}
	if with.OpenID != "" {
		query.Set("openid", with.OpenID)
	}
	return query, writeXML([]Field{first, {Name: "Encrypt", Value: encrypt}}, "</xml>"), nil
}

// signature is the query's signature, which does not cover the body and so
// proves nothing about it.
func signature(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// Tamperings are the parts of a push that Tamper can spoil.
var Tamperings = []string{"msg_signature", "timestamp", "nonce", "ciphertext", "body"}

// Tamper returns a push of which one of the Tamperings no longer fits: a query
// value with its last character changed, a ciphertext with one character
// changed, or a body cut in the middle. It panics for another part.
func Tamper(query url.Values, body []byte, part string) (url.Values, []byte) {
	out := url.Values{}
	for name, values := range query {
		out[name] = slices.Clone(values)
	}
	body = slices.Clone(body)
	switch part {
	case "msg_signature", "timestamp", "nonce":
		value := []byte(out.Get(part))
		value[len(value)-1] = otherDigit(value[len(value)-1])
		out.Set(part, string(value))
	case "ciphertext":
		i := bytes.Index(body, []byte("<Encrypt><![CDATA[")) + len("<Encrypt><![CDATA[")
		body[i] = otherDigit(body[i])
	case "body":
		body = body[:len(body)/2]
	default:
		panic("wechattest: Tamper cannot spoil " + part)
	}
	return out, body
}

func otherDigit(c byte) byte {
	if c == '1' {
		return '2'
	}
	return '1'
}

// openReply decrypts an encrypted answer to a message; a clear one is returned
// as it is.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
func (s *Server) openReply(answer []byte) (plain string, err error) {
	text := strings.TrimSpace(string(answer))
	if text == "" || text == "success" {
		return text, nil
	}
	var sealed struct {
		Encrypt      string
		MsgSignature string
		TimeStamp    string
		Nonce        string
	}
	if err := xml.Unmarshal(answer, &sealed); err != nil || sealed.Encrypt == "" {
		return "", fmt.Errorf("answer is neither empty nor success nor an encrypted reply")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !msgcrypt.Verify(s.messageToken, sealed.TimeStamp, sealed.Nonce, sealed.Encrypt, sealed.MsgSignature) {
		return "", fmt.Errorf("reply has a wrong MsgSignature")
	}
	msg, appID, err := s.key.Decrypt(sealed.Encrypt)
	if err != nil {
		return "", fmt.Errorf("reply: %w", err)
	}
	if appID != s.componentAppID {
		return "", fmt.Errorf("reply is for appid %q, not for the component", appID)
	}
	return string(msg), nil
}
