'use strict';

// wechat-oauth and co-wechat-oauth: users' logins with the AppSecret of a
// direct account. The host is fixed, so the one method that sends is wrapped.

const { promisify } = require('node:util');
const { assert, env, run } = require('./steps');

function redirected(oauth) {
  const { request } = oauth;
  oauth.request = (url, ...rest) => request.call(oauth, url.replace('https://api.weixin.qq.com', env('WECHAT_URL')), ...rest);
  return oauth;
}

const callbacks = redirected(new (require('wechat-oauth'))(env('APPID'), env('SECRET')));
const mini = redirected(new (require('wechat-oauth'))(env('APPID'), env('SECRET'), null, null, true));
const promises = redirected(new (require('co-wechat-oauth'))(env('APPID'), env('SECRET')));
const call = (oauth, name, ...args) => promisify(oauth[name]).apply(oauth, args);
let openid;

run({
  async web_login() {
    openid = (await call(callbacks, 'getAccessToken', 'oauth-1')).data.openid;
    assert.ok(openid);
    return 'openid';
  },
  async user() {
    const user = await call(callbacks, 'getUser', openid);
    assert.equal(user.openid, openid);
    return user.nickname;
  },
  async mini_program_login() {
    assert.ok((await call(mini, 'getSessionKey', 'oauth-2')).data.session_key);
    return 'session_key';
  },
  async web_login_promise() {
    const { data } = await promises.getAccessToken('oauth-3');
    await promises.refreshAccessToken(data.refresh_token);
    const user = await promises.getUser(data.openid);
    assert.equal(user.openid, data.openid);
    return user.nickname;
  },
});
