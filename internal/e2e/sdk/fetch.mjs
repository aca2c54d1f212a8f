// Node's own fetch, which takes no notice of HTTP_PROXY: lingpai is the base URL.

import { createHash } from 'node:crypto';
import steps from './steps.js';

const { assert, env, run } = steps;
const lingpai = (path, init) => fetch(new URL(path, env('LINGPAI')), init);
const account = { headers: { 'X-Wechat-Appid': env('AUTHORIZER_APPID') } };

run({
  async component_call() {
    const body = JSON.stringify({ offset: 0, count: 10 });
    const { total_count: n } = await (await lingpai('/cgi-bin/component/api_get_authorizer_list', { method: 'POST', body })).json();
    assert.ok(n > 0);
    return `${n} authorizers`;
  },
  async authorizer_call() {
    assert.equal((await (await lingpai('/cgi-bin/menu/get', account)).json()).errcode, 0);
    return 'ok';
  },
  // FormData makes fetch send the body in chunks unless its length is known.
  async upload() {
    const form = new FormData();
    form.append('media', new Blob(['picture'], { type: 'image/jpeg' }), 'picture.jpg');
    const { media_id: id } = await (await lingpai('/cgi-bin/media/upload?type=image', { ...account, method: 'POST', body: form })).json();
    assert.equal(await (await lingpai(`/cgi-bin/media/get?media_id=${id}`, account)).text(), 'picture');
    return 'ok';
  },
  async upload_stream() {
    const body = new ReadableStream({ start(c) { c.enqueue(Buffer.from('{"touser":"oUser","msgtype":"text","text":{"content":"hi"}}')); c.close(); } });
    const answer = await lingpai('/cgi-bin/message/custom/send', { ...account, method: 'POST', body, duplex: 'half' });
    assert.equal((await answer.json()).errcode, 0);
    return 'ok';
  },
  async download() {
    const data = await (await lingpai(`/cgi-bin/media/get?media_id=${env('MEDIA_ID')}`, account)).arrayBuffer();
    assert.equal(createHash('sha256').update(Buffer.from(data)).digest('hex'), env('MEDIA_SHA256'));
    return `${data.byteLength} bytes`;
  },
  async own_error() {
    const answer = await lingpai('/cgi-bin/menu/get?from_appid=wxffffffffffffffff');
    assert.match(answer.headers.get('proxy-status'), /^lingpai; error=/);
    assert.equal(answer.status, 404);
    assert.equal((await answer.json()).errcode, 990404);
    return '404 990404';
  },
});
