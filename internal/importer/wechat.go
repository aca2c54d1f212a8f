package importer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"lingpai/internal/config"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// transport reaches WeChat as the sidecar of the same configuration does. It
// asks no environment variable for a proxy.
func transport(c config.Upstream) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: c.ConnectTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: c.ConnectTimeout,
		IdleConnTimeout:     c.IdleTimeout,
		MaxIdleConnsPerHost: infoWorkers,
		DisableCompression:  true,
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, usagef("upstream.ca_file: %w", reason(err))
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usagef("upstream.ca_file: holds no certificate")
		}
		t.TLSClientConfig.RootCAs = roots
	}
	if c.EgressProxy != "" {
		egress, err := url.Parse(c.EgressProxy)
		if err != nil {
			return nil, usagef("upstream.egress_proxy: is no URL")
		}
		t.Proxy = http.ProxyURL(egress)
	}
	return t, nil
}

// infoCaller calls api_get_authorizer_info, which the sidecar itself never does.
type infoCaller struct {
	http    *http.Client
	base    string
	timeout time.Duration
}

func newInfoCaller(t http.RoundTripper, base string, timeout time.Duration) *infoCaller {
	return &infoCaller{
		http: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base:    base,
		timeout: timeout,
	}
}

// maxInfo bounds an answer, in bytes.
const maxInfo = 1 << 20

// info describes an authorizer. Errors are *wechat.Error and
// *wechat.TransportError, and show no token.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
func (c *infoCaller) info(ctx context.Context, token secret.String, component, appID string) (wechat.AuthorizerInfo, error) {
	const path = "/cgi-bin/component/api_get_authorizer_info"
	fail := func(err error) (wechat.AuthorizerInfo, error) {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, and with it the token
		}
		return wechat.AuthorizerInfo{}, &wechat.TransportError{Endpoint: path, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	payload, err := json.Marshal(map[string]string{"component_appid": component, "authorizer_appid": appID})
	if err != nil {
		return fail(err)
	}
	target := c.base + path + "?component_access_token=" + url.QueryEscape(token.Reveal())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(payload))
	if err != nil {
		return fail(errors.New("upstream.url is no URL"))
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := c.http.Do(request)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxInfo))
	if err != nil {
		return fail(err)
	}
	if response.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("HTTP status %d", response.StatusCode))
	}
	var status struct {
		Code json.Number `json:"errcode"` // a number or a string of one
	}
	if json.Unmarshal(raw, &status) != nil {
		return fail(wechat.ErrBrokenAnswer)
	}
	// errmsg is not kept: it may repeat what was sent.
	if code, _ := status.Code.Int64(); code != 0 {
		return wechat.AuthorizerInfo{}, &wechat.Error{Code: int(code), Message: "see WeChat's list of errcodes", Endpoint: path}
	}
	info, err := wechat.ParseAuthorizerInfo(raw)
	if err == nil && info.AppID != appID {
		err = wechat.ErrBrokenAnswer
	}
	if err != nil {
		return fail(err)
	}
	return info, nil
}
