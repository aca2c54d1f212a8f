'use strict';

// TNWX (@tnwx/openmp) as a third-party platform. Its addresses are fixed, but
// its old axios sends an https address in clear text to the proxy named by
// HTTPS_PROXY, so that is all it takes.

const { OpenMpApi } = require('@tnwx/openmp');
const { OpenMpSnsAccessTokenApi } = require('@tnwx/openmp/dist/OpenMpSnsAccessTokenApi');
const { ApiConfig, ApiConfigKit, OpenAuthorizerAccessTokenApi, OpenComponentAccessTokenApi } = require('@tnwx/accesstoken');
const { HttpKit } = require('@tnwx/kits');
const { assert, env, run } = require('./steps');

const platform = env('COMPONENT_APPID');
const authorizer = env('AUTHORIZER_APPID');
const config = new ApiConfig(platform, env('COMPONENT_SECRET'), 'dummy');
config.setTicket = env('TICKET');
ApiConfigKit.putApiConfig(config);
let token;

run({
  async component_token() {
    token = (await OpenComponentAccessTokenApi.getAccessToken()).getAccessToken;
    return token.startsWith('lingpai-') ? token : 'no placeholder';
  },
  async pre_auth_code() {
    const { pre_auth_code: code } = await OpenMpApi.getPreAuthCode(platform);
    assert.match(code, /^preauthcode@@@/);
    return new URL(OpenMpApi.getComponentLoginPage(platform, code, 'https://app.example.com/authorized', 3)).host;
  },
  async query_auth() {
    const { authorization_info: info } = await OpenMpApi.queryAuth(platform, env('AUTH_CODE'));
    assert.equal(info.authorizer_appid, env('AUTH_APPID'));
    assert.ok(info.authorizer_access_token && info.authorizer_refresh_token);
    return info.authorizer_appid;
  },
  async authorizer_info() {
    const info = await OpenMpApi.getAuthorizerInfo(platform, authorizer);
    assert.equal(info.authorization_info.authorizer_appid, authorizer);
    return 'read';
  },
  async authorizer_list() {
    const list = await OpenMpApi.getAuthorizerList(platform, 0, 100);
    assert.ok(list.list.some((entry) => entry.authorizer_appid === authorizer));
    return `${list.total_count} authorizers`;
  },
  async authorizer_token() {
    const fetched = await OpenAuthorizerAccessTokenApi.getAccessToken(authorizer, token, env('REFRESH_TOKEN'));
    token = fetched.getAccessToken;
    return token.startsWith('lingpai-') ? token : 'no placeholder';
  },
  async call() {
    const answer = await HttpKit.getHttpDelegate.httpGet(`https://api.weixin.qq.com/cgi-bin/menu/get?access_token=${token}`);
    assert.equal(answer.errcode, 0);
    return 'ok';
  },
  async web_login() {
    const grant = await OpenMpSnsAccessTokenApi.getSnsAccessToken('tnwx-1', authorizer);
    assert.ok(grant.openid && grant.access_token);
    return 'openid';
  },
});
