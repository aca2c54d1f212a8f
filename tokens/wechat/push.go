package wechat

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// InfoTypes of the authorization-event URL that lingpai works on. There are
// others, and new ones appear.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
const (
	InfoTypeTicket           = "component_verify_ticket"
	InfoTypeAuthorized       = "authorized"
	InfoTypeUpdateAuthorized = "updateauthorized"
	InfoTypeUnauthorized     = "unauthorized"
	// InfoTypeFastRegister brings a code for a mini program registered through
	// the platform, if its status is 0.
	InfoTypeFastRegister = "notify_third_fasteregister"
)

// Event is a push to the authorization-event URL, as far as lingpai reads it.
type Event struct {
	AppID        string // the platform's
	CreateTime   time.Time
	InfoType     string
	Ticket       secret.String
	AuthorizerID string // AuthorizerAppid, or appid and the like of a notify_… event
	Code         secret.String
	CodeExpires  time.Time // zero if the push does not say
	PreAuthCode  secret.String
	Status       int // of notify_… events
}

// ErrNotXML means that a push is no XML document of the form <xml>…</xml>.
var ErrNotXML = errors.New("push is no <xml> document")

// maxDepth and maxFields bound what a push may hold.
const (
	maxDepth  = 16
	maxFields = 1000
)

// ParseEvent reads the decrypted XML of a push. Field names are compared
// without case, since classic events and notify_… ones spell them differently.
// A document that ends in <xml> instead of </xml>, as in WeChat's own examples,
// is accepted.
func ParseEvent(message []byte) (Event, error) {
	var e Event
	err := fields(message, func(name, value string) {
		switch strings.ToLower(name) {
		case "appid":
			// Classic events: the platform's. notify_… ones have both, the
			// platform's first, then the account's in lower case.
			if name == "appid" {
				e.AuthorizerID = value
			} else {
				e.AppID = value
			}
		case "createtime":
			e.CreateTime = unixTime(value)
		case "infotype":
			e.InfoType = value
		case "componentverifyticket":
			e.Ticket = secret.New(value)
		case "authorizerappid", "authorizer_appid", "verify_appid":
			e.AuthorizerID = value
		case "authorizationcode", "auth_code":
			e.Code = secret.New(value)
		case "authorizationcodeexpiredtime":
			e.CodeExpires = unixTime(value)
		case "preauthcode":
			e.PreAuthCode = secret.New(value)
		case "status":
			e.Status, _ = strconv.Atoi(value)
		}
	})
	return e, err
}

// Envelope is the outer XML of a push.
type Envelope struct {
	AppID      string // of system events
	ToUserName string // of messages
	Encrypt    string
}

// ParseEnvelope reads the body of a push.
func ParseEnvelope(body []byte) (Envelope, error) {
	var e Envelope
	err := fields(body, func(name, value string) {
		switch name {
		case "AppId":
			e.AppID = value
		case "ToUserName":
			e.ToUserName = value
		case "Encrypt":
			e.Encrypt = value
		}
	})
	if err == nil && e.Encrypt == "" {
		err = ErrNotXML
	}
	return e, err
}

// fields calls fn with each element directly below <xml> that holds text. A push
// is taken apart before its signature can be looked at, so that strangers can
// make this work: what looks as WeChat writes it is spared encoding/xml.
func fields(document []byte, fn func(name, value string)) error {
	if flatFields(document, fn) {
		return nil
	}
	return treeFields(document, fn)
}

// treeFields is fields for any document.
func treeFields(document []byte, fn func(name, value string)) error {
	document = bytes.TrimSpace(document)
	if before, slip := bytes.CutSuffix(document, []byte("<xml>")); slip && len(before) > 0 {
		document = append(before[:len(before):len(before)], "</xml>"...)
	}
	decoder := xml.NewDecoder(bytes.NewReader(document))
	var name string
	var text strings.Builder
	depth, count := 0, 0
	for {
		token, err := decoder.Token()
		if err != nil {
			return ErrNotXML
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			if depth > maxDepth || depth == 1 && t.Name.Local != "xml" {
				return ErrNotXML
			}
			if depth == 2 {
				if count++; count > maxFields {
					return ErrNotXML
				}
				name = t.Name.Local
				text.Reset()
			}
		case xml.CharData:
			if depth == 2 {
				text.Write(t)
			}
		case xml.EndElement:
			if depth == 2 {
				fn(name, strings.TrimSpace(text.String()))
			}
			if depth--; depth == 0 {
				return nothingBehind(decoder)
			}
		case xml.Directive:
			return ErrNotXML // no DOCTYPE, no entities
		}
	}
}

// nothingBehind refuses content behind the root element.
func nothingBehind(decoder *xml.Decoder) error {
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if text, blank := token.(xml.CharData); err != nil || !blank || len(bytes.TrimSpace(text)) > 0 {
			return ErrNotXML
		}
	}
}

func unixTime(value string) time.Time {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}
