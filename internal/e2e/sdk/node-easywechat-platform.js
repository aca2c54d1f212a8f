'use strict';

// node-easywechat as a third-party platform (OpenPlatform).

const { FormData, OpenPlatform } = require('node-easywechat');
const { assert, env, run, fails, picture, samePicture, signed, isPNG } = require('./steps');

const authorizer = env('AUTHORIZER_APPID');
const app = new OpenPlatform({
  app_id: env('COMPONENT_APPID'),
  secret: env('COMPONENT_SECRET'),
  token: 'dummy',
  aes_key: 'A'.repeat(43),
  http: { baseURL: env('WECHAT_URL') },
});
// The SDK wants a ticket before it asks for a token, and no push brings it one.
app.setVerifyTicket({ getTicket: async () => env('TICKET') });
const component = { component_appid: env('COMPONENT_APPID') };
let account;
let mediaID;

run({
  async component_token() {
    const token = await app.getComponentAccessToken().getToken();
    assert.equal(await app.getComponentAccessToken().getToken(), token);
    return token.startsWith('lingpai-') ? token : 'no placeholder';
  },
  async pre_auth_link() {
    const link = new URL(await app.createPreAuthorizationUrl('https://app.example.com/authorized', { auth_type: 3 }));
    assert.match(link.searchParams.get('pre_auth_code'), /^preauthcode@@@/);
    return link.host;
  },
  async query_auth() {
    const authorization = await app.getAuthorization(env('AUTH_CODE'));
    assert.equal(authorization.getAppId(), env('AUTH_APPID'));
    const token = authorization.getAccessToken().toString();
    assert.ok(token && authorization.getRefreshToken());
    const client = app.getMiniAppWithAccessToken(env('AUTH_APPID'), token).getClient();
    assert.equal((await client.get('/wxa/get_category')).toObject().errcode, 0);
    return authorization.getAppId();
  },
  async authorizer_info() {
    const response = await app.getClient().postJson('/cgi-bin/component/api_get_authorizer_info', { ...component, authorizer_appid: authorizer });
    const info = response.toObject();
    assert.ok(info.authorizer_info.user_name);
    assert.equal(info.authorization_info.authorizer_appid, authorizer);
    return 'read';
  },
  async authorizer_list() {
    const response = await app.getClient().postJson('/cgi-bin/component/api_get_authorizer_list', { ...component, offset: 0, count: 100 });
    const list = response.toObject();
    assert.ok(list.list.some((entry) => entry.authorizer_appid === authorizer && entry.refresh_token));
    return `${list.total_count} authorizers`;
  },
  async authorizer_token() {
    // Without a secret of its own the account refuses to sign for the JS-SDK.
    account = await app.getOfficialAccountWithRefreshToken(authorizer, env('REFRESH_TOKEN'), { secret: 'unused' });
    const token = await account.getAccessToken().getToken();
    return token.startsWith('lingpai-') ? token : 'no placeholder';
  },
  async call() {
    assert.equal((await account.getClient().get('/cgi-bin/menu/get')).toObject().errcode, 0);
    return 'ok';
  },
  async post() {
    const response = await account.getClient().postJson('/cgi-bin/message/custom/send', { touser: 'oUser', msgtype: 'text', text: { content: '你好' } });
    assert.equal(response.toObject().errcode, 0);
    return 'ok';
  },
  async upload() {
    const formData = new FormData();
    formData.append('media', picture, { filename: 'picture.jpg', contentType: 'image/jpeg' });
    const response = await account.getClient().post('/cgi-bin/media/upload', { params: { type: 'image' }, formData });
    mediaID = response.toObject().media_id;
    assert.ok(mediaID);
    return 'media_id';
  },
  async download() {
    const response = await account.getClient().get('/cgi-bin/media/get', { params: { media_id: mediaID }, responseType: 'arraybuffer' });
    return samePicture(response.getContent());
  },
  jssdk: async () => signed(await account.getUtils().buildJsSdkConfig('https://app.example.com/page'), authorizer),
  async mini_program_login() {
    const mini = await app.getMiniAppWithRefreshToken(authorizer, env('REFRESH_TOKEN'));
    const session = await mini.getUtils().code2Session('easywechat-1');
    assert.ok(session.openid && session.session_key);
    return 'openid';
  },
  async mini_program_code() {
    const mini = await app.getMiniAppWithRefreshToken(authorizer, env('REFRESH_TOKEN'));
    const response = await mini.getClient().post('/wxa/getwxacodeunlimit', { json: { scene: 'a=1' }, responseType: 'arraybuffer' });
    return isPNG(response.getContent());
  },
  // The SDK's own factory for this passes the secret as component_appid and a
  // promise as token, so the component is named again.
  async web_login() {
    const oauth = account.getOAuth();
    oauth._baseUrl = `${env('WECHAT_URL')}/sns`;
    oauth.withComponent({ component_app_id: env('COMPONENT_APPID'), component_access_token: await app.getComponentAccessToken().getToken() });
    const user = await oauth.scopes(['snsapi_userinfo']).userFromCode('easywechat-2');
    assert.ok(user.getId() && user.getNickname());
    return user.getNickname();
  },
  async error_of_wechat() {
    const response = await account.getClient().get('/cgi-bin/media/get', { params: { media_id: 'none' } });
    assert.equal(response.toObject().errcode, 40007);
    return 'errcode 40007';
  },
  // WeChat says so with status 200, lingpai with 404.
  async unknown_account() {
    const err = await fails(() => app.refreshAuthorizerToken('wxffffffffffffffff', 'dummy'));
    const errcode = err.response?.data?.errcode ?? JSON.parse(err.message.slice(err.message.indexOf('{'))).errcode;
    return `errcode ${errcode}`;
  },
  async authorizer_tokens_again() {
    const n = Number(env('REFRESHES'));
    let newest;
    for (let done = 0; done < n; done += 50) {
      await Promise.all(Array.from({ length: Math.min(50, n - done) }, async () => {
        const refreshed = await app.refreshAuthorizerToken(authorizer, env('REFRESH_TOKEN'));
        assert.ok(refreshed.authorizer_access_token && refreshed.authorizer_refresh_token && refreshed.expires_in > 0);
        newest = refreshed.authorizer_access_token;
      }));
    }
    const again = app.getOfficialAccountWithAccessToken(authorizer, newest);
    assert.equal((await again.getClient().get('/cgi-bin/menu/get')).toObject().errcode, 0);
    return `${n} calls`;
  },
});
