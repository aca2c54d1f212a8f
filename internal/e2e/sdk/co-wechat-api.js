'use strict';

// co-wechat-api: one account, tokens of /cgi-bin/token. The addresses are
// properties without a setter.

const WechatAPI = require('co-wechat-api');
const { assert, env, run, fails, picture, samePicture, signed } = require('./steps');

const appID = env('APPID');
const api = new WechatAPI(appID, env('SECRET'));
for (const [name, path] of Object.entries({
  prefix: '/cgi-bin/', snsPrefix: '/sns/', fileServerPrefix: '/cgi-bin/', payPrefix: '/pay/',
  merchantPrefix: '/merchant/', customservicePrefix: '/customservice/', wxaPrefix: '/wxa/',
})) api[name] = env('WECHAT_URL') + path;
let mediaID;

const steps = {
  async token() {
    const { accessToken } = await api.ensureAccessToken();
    return accessToken.startsWith('lingpai-') ? accessToken : 'no placeholder';
  },
  async call() {
    assert.equal((await api.getMenu()).errcode, 0);
    return 'ok';
  },
  async post() {
    assert.equal((await api.sendText('oUser', '你好')).errcode, 0);
    return 'ok';
  },
  async upload() {
    mediaID = (await api.uploadMedia(picture, 'image', 'picture.jpg', 'image/jpeg')).media_id;
    assert.ok(mediaID);
    return 'media_id';
  },
  download: async () => samePicture(await api.getMedia(mediaID)),
  jssdk: async () => signed(await api.getJsConfig({ url: 'https://app.example.com/page', jsApiList: [] }), appID),
  async error_of_wechat() {
    const err = await fails(() => api.getMedia('none'));
    assert.equal(err.code, 40007);
    return 'errcode 40007';
  },
};
if (process.env.LOGIN) {
  steps.mini_program_login = async () => {
    assert.ok((await api.code2Session('co-1')).openid);
    return 'openid';
  };
}
run(steps);
