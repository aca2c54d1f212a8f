'use strict';

// node-easywechat for one account: a dummy secret, tokens of /cgi-bin/token and
// /cgi-bin/stable_token.

const { FormData, MiniApp, OfficialAccount } = require('node-easywechat');
const { assert, env, run, picture, samePicture, signed, isPNG } = require('./steps');

const appID = env('APPID');
const config = { app_id: appID, secret: env('SECRET'), token: 'dummy', aes_key: '', http: { baseURL: env('WECHAT_URL') } };
const account = new OfficialAccount(config);
const stable = new OfficialAccount({ ...config, use_stable_access_token: true });
const mini = new MiniApp({ ...config, use_stable_access_token: true });
let mediaID;

async function token(app) {
  const value = await app.getAccessToken().getToken();
  return value.startsWith('lingpai-') ? value : 'no placeholder';
}

const steps = {
  token: () => token(account),
  stable_token: () => token(stable),
  async call() {
    assert.equal((await account.getClient().get('/cgi-bin/menu/get')).toObject().errcode, 0);
    assert.equal((await stable.getClient().get('/cgi-bin/menu/get')).toObject().errcode, 0);
    return 'ok';
  },
  async upload() {
    const formData = new FormData();
    formData.append('media', picture, { filename: 'picture.jpg', contentType: 'image/jpeg' });
    mediaID = (await account.getClient().post('/cgi-bin/media/upload', { params: { type: 'image' }, formData })).toObject().media_id;
    assert.ok(mediaID);
    return 'media_id';
  },
  async download() {
    const response = await account.getClient().get('/cgi-bin/media/get', { params: { media_id: mediaID }, responseType: 'arraybuffer' });
    return samePicture(response.getContent());
  },
  jssdk: async () => signed(await account.getUtils().buildJsSdkConfig('https://app.example.com/page'), appID),
  async mini_program_code() {
    return isPNG((await mini.getClient().post('/wxa/getwxacodeunlimit', { json: { scene: 'a=1' }, responseType: 'arraybuffer' })).getContent());
  },
};
// The login of a mini program takes the AppSecret, which lingpai has of direct
// accounts only.
if (process.env.LOGIN) {
  steps.mini_program_login = async () => {
    const session = await mini.getUtils().codeToSession('easywechat-3');
    assert.ok(session.openid && session.session_key);
    return 'openid';
  };
  steps.web_login = async () => {
    const oauth = account.getOAuth();
    oauth._baseUrl = `${env('WECHAT_URL')}/sns`;
    const user = await oauth.userFromCode('easywechat-4');
    assert.ok(user.getId() && user.getNickname());
    return user.getNickname();
  };
}
run(steps);
