'use strict';

// wechat-api: one account, callbacks. setEndpoint knows https only, so the
// property behind it is set.

const fs = require('node:fs');
const { promisify } = require('node:util');
const WechatAPI = require('wechat-api');
const { assert, env, run, fails, picture, samePicture, signed } = require('./steps');

const appID = env('APPID');
const api = new WechatAPI(appID, env('SECRET'));
api.endpoint = env('WECHAT_URL');
api.setOpts({ timeout: 15000 });
const call = (name, ...args) => promisify(api[name]).apply(api, args);
let mediaID;

run({
  async token() {
    const { accessToken } = await call('getLatestToken');
    return accessToken.startsWith('lingpai-') ? accessToken : 'no placeholder';
  },
  async call() {
    assert.equal((await call('getMenu')).errcode, 0);
    return 'ok';
  },
  async post() {
    assert.equal((await call('sendText', 'oUser', '你好')).errcode, 0);
    return 'ok';
  },
  async upload() {
    fs.writeFileSync('picture.jpg', picture);
    mediaID = (await call('uploadMedia', 'picture.jpg', 'image')).media_id;
    assert.ok(mediaID);
    return 'media_id';
  },
  download: async () => samePicture(await call('getMedia', mediaID)),
  jssdk: async () => signed(await call('getJsConfig', { url: 'https://app.example.com/page', jsApiList: [] }), appID),
  async callback_ip() {
    const lists = [await call('getIp'), await call('getIp')];
    assert.deepEqual(lists[0], lists[1]);
    return `${lists[0].ip_list.length} addresses`;
  },
  async error_of_wechat() {
    const err = await fails(() => call('sendText', '', '你好'));
    assert.equal(err.code, 40003);
    return 'errcode 40003';
  },
});
