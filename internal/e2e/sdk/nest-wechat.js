'use strict';

// nest-wechat: as a third-party platform (ComponentService) and for one account
// (WeChatService). Its addresses are fixed; it sends through the shared
// instance of its own axios, which takes an interceptor.

require('reflect-metadata');
const axios = require(require.resolve('axios', { paths: [require.resolve('nest-wechat')] }));
const { ComponentService, MapCache, WeChatService } = require('nest-wechat');
const { assert, env, run, signed } = require('./steps');

axios.interceptors.request.use((config) => {
  config.url = config.url.replace('https://api.weixin.qq.com', env('WECHAT_URL'));
  return config;
});

const authorizer = env('AUTHORIZER_APPID');
const platform = new ComponentService({
  componentAppId: env('COMPONENT_APPID'), componentSecret: env('COMPONENT_SECRET'),
  componentToken: 'dummy', componentEncodingAESKey: 'A'.repeat(43),
});
const account = new WeChatService({ appId: env('APPID'), secret: env('SECRET') });
account.cacheAdapter = new MapCache();
let token;

run({
  async start_push_ticket() {
    const { data } = await platform.startPushTicket();
    assert.equal(data.errcode, 0);
    return data.errmsg;
  },
  ticket: () => platform.setTicket(env('TICKET')) ?? 'set',
  async component_token() {
    const value = (await platform.getComponentAccessToken()).componentAccessToken;
    return value.startsWith('lingpai-') ? value : 'no placeholder';
  },
  async pre_auth_code() {
    assert.match((await platform.createPreAuthCode()).data.pre_auth_code, /^preauthcode@@@/);
    return 'pre_auth_code';
  },
  async query_auth() {
    const { authorization_info: info } = (await platform.queryAuth(env('AUTH_CODE'))).data;
    assert.equal(info.authorizer_appid, env('AUTH_APPID'));
    return info.authorizer_appid;
  },
  async authorizer_info() {
    const { data } = await platform.requestAuthorizerInfo(authorizer);
    assert.equal(data.authorization_info.authorizer_appid, authorizer);
    return 'read';
  },
  async authorizer_token() {
    token = (await platform.requestAuthorizerToken(authorizer, env('REFRESH_TOKEN'))).data.authorizer_access_token;
    return token.startsWith('lingpai-') ? token : 'no placeholder';
  },
  async call() {
    assert.equal((await platform.getAccountBasicInfo(token)).data.errcode, 0);
    return 'ok';
  },
  async request_of_an_error() {
    const { data: refused } = await axios.get(`https://api.weixin.qq.com/cgi-bin/media/get?access_token=${token}&media_id=none`);
    assert.equal(refused.errcode, 40007);
    const { data } = await platform.getRid(/rid: (\S+)/.exec(refused.errmsg)[1], token);
    assert.match(data.request.request_url, /media_id=none/);
    return 'read';
  },
  async account_token() {
    const value = await account.getToken();
    return value.startsWith('lingpai-') ? value : 'no placeholder';
  },
  jssdk: async () => signed(await account.jssdkSignature('https://app.example.com/page'), env('APPID')),
  async web_login() {
    const grant = await account.getAccessTokenByCode('nest-1');
    assert.ok(grant.openid);
    const user = await account.getUserInfo(grant.access_token, grant.openid);
    assert.equal(user.openid, grant.openid);
    return user.nickname;
  },
});
