// Visits: what administrators do between the page with the button and the page
// with the result, and what becomes of it.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import {
  back, begin, confirm, control, eventually, fromElsewhere, knobs, lingpai, newAccount, offered, press, run, shows, visitor,
} from './visitor.mjs';

const proxy = process.env.PROXY; // listen.proxy
const app = process.env.APP; // an app that sends administrators to lingpai

// works makes a call for an account, which must succeed with the first token that
// it is made with.
async function works(appId) {
  const asked = async () => {
    const { calls } = await control('GET', `calls?path=/cgi-bin/menu/get&app_id=${appId}`);
    return calls.length;
  };
  const before = await asked();
  const response = await fetch(`${proxy}/cgi-bin/menu/get`, { headers: { 'X-Wechat-Appid': appId } });
  const text = await response.text();
  assert.equal(JSON.parse(text).errcode, 0, text);
  assert.equal(await asked(), before + 1, 'calls that reached WeChat');
}

// spent is how many codes were exchanged.
async function spent() {
  const { executed } = await control('GET', 'calls?path=/cgi-bin/component/api_query_auth&limit=1');
  return executed;
}

// authorize has an account authorize by clicks only.
async function authorize(page, appId) {
  await begin(page);
  await confirm(page, appId);
  await shows(page, 'done');
  assert.match(await page.locator('main').innerText(), new RegExp(appId));
}

// refusedFor waits for WeChat's error page.
async function refusedFor(page, reason) {
  await page.locator(`body[data-page=error][data-reason=${reason}]`).waitFor();
}

// backToUsedLogin goes back from the result to the login page, which must lead
// nowhere.
async function backToUsedLogin(page, account) {
  await back(page);
  const kept = page.locator('body[data-page=login]');
  await page.locator('body[data-page=error]').or(kept).waitFor();
  if (await kept.isVisible()) await confirm(page, account);
  await refusedFor(page, 'pre_auth_code_used');
}

const steps = {
  async authorize() {
    const page = await visitor();
    const account = await newAccount({ nick_name: '<b>甲&乙</b>' });
    await authorize(page, account);
    assert.ok((await page.locator('main').innerText()).includes('<b>甲&乙</b>'), 'its name');
    await works(account);
    // The result can be loaded again: the code is not exchanged twice.
    const before = await spent();
    await page.reload();
    await shows(page, 'done');
    assert.equal(await spent(), before);
    await page.leave();
  },

  async on_a_phone() {
    const page = await visitor({ phone: true, inWeChat: true, language: 'zh-CN' });
    const account = await newAccount();
    await page.goto(`${lingpai}/authorize`);
    await offered(page);
    assert.equal(await page.locator('.note').count(), 0, 'it asks to be opened in WeChat');
    await press(page);
    await shows(page, 'login');
    assert.equal(new URL(page.url()).pathname, '/wxaopen/safe/bindcomponent');
    await confirm(page, account);
    await shows(page, 'done');
    await works(account);
    await page.leave();
  },

  // The old tokens die with the second consent, and no event tells of it.
  async again_with_the_same_permissions() {
    const page = await visitor();
    const account = await newAccount();
    await authorize(page, account);
    await works(account);
    await authorize(page, account);
    await works(account);
    await page.leave();
  },

  async again_with_fewer_permissions() {
    const page = await visitor();
    const account = await newAccount({ scopes: [1, 2, 3] });
    await authorize(page, account);
    assert.equal(await page.locator('.scopes li').count(), 3);
    await begin(page);
    await page.locator('[name=scope][value="3"]').uncheck();
    await confirm(page, account);
    await shows(page, 'done');
    assert.equal(await page.locator('.scopes li').count(), 2);
    await works(account);
    await page.leave();
  },

  // WeChat leads nowhere then: people go back.
  async cancel() {
    const page = await visitor();
    const account = await newAccount();
    await begin(page);
    await page.locator('[value=cancel]').click();
    await shows(page, 'cancelled');
    await page.goto(`${lingpai}/authorize`);
    await authorize(page, account);
    await works(account);
    await page.leave();
  },

  async back_from_login() {
    const page = await visitor();
    const account = await newAccount();
    await begin(page);
    await back(page);
    await shows(page, 'offer');
    await press(page);
    await shows(page, 'login');
    await confirm(page, account);
    await shows(page, 'done');
    await page.leave();
  },

  // Browsers may keep the pages before, whatever their headers say: with a code
  // that is used, and a link to get a new one.
  async back_from_result() {
    const page = await visitor();
    const account = await newAccount();
    await authorize(page, account);
    const before = await spent();
    await backToUsedLogin(page, account);
    while (!(await page.locator('body[data-page=offer]').isVisible())) await back(page);
    await press(page);
    if (await page.locator('body[data-page=error]').isVisible()) {
      await back(page);
      await shows(page, 'offer');
      await page.locator('.while a:not(.button)').first().click(); // Get a new button
      await page.waitForURL(/authorize$/);
      await press(page);
    }
    await shows(page, 'login');
    assert.equal(await spent(), before);
    await confirm(page, account);
    await shows(page, 'done');
    await works(account);
    await page.leave();
  },

  // The second click may find the code used, but nothing happens twice.
  async double_submit() {
    const page = await visitor();
    const account = await newAccount();
    await page.goto(`${lingpai}/authorize`);
    await offered(page);
    await page.locator('.button:visible').first().dblclick();
    await shows(page, 'login');
    await page.locator(`[value="${account}"]`).check();
    const before = await spent();
    await page.locator('[value=confirm]').dblclick();
    await page.locator('body[data-page=done], body[data-reason=pre_auth_code_used]').waitFor();
    await eventually(() => works(account));
    assert.equal(await spent(), before + 1);
    await page.leave();
  },

  async result_in_two_tabs() {
    const page = await visitor();
    const account = await newAccount();
    await knobs({ push_order: 'event_lost' });
    await begin(page);
    const before = await spent();
    // The first tab is held until the second has asked for the same.
    const second = await page.context().newPage();
    const tabs = await Promise.all([
      confirm(page, account).then(() => page),
      page.waitForRequest(/\/authorize\/done/).then((request) => second.goto(request.url())).then(() => second),
    ]);
    await knobs({ push_order: 'event_first' });
    for (const tab of tabs) await shows(tab, 'done');
    assert.equal(await spent(), before + 1);
    await works(account);
    await page.leave();
  },

  // The button's code can be too old (a computer slept through the animation
  // that replaces the button), or the way back too late.
  async expired_button() {
    const page = await visitor();
    const account = await newAccount();
    await knobs({ pre_auth_code_lifetime: '31s' }); // lingpai's margin is 30 s
    await page.goto(`${lingpai}/authorize`);
    await knobs({ pre_auth_code_lifetime: '30m' });
    await page.locator('.after .button').waitFor(); // visible after a second
    assert.ok(!(await page.locator('.while .button').isVisible()), 'the old button');
    await press(page);
    await shows(page, 'offer');
    await press(page);
    await shows(page, 'login');
    await confirm(page, account);
    await shows(page, 'done');
    await page.leave();
  },

  async expired_code() {
    const page = await visitor();
    const account = await newAccount();
    await knobs({ push_order: 'event_lost', auth_code_lifetime: '1s' });
    await begin(page);
    const login = await page.locator('body').getAttribute('data-login');
    const { redirect_url } = await control('POST', 'logins/confirm', { login, app_id: account });
    await pause(1000); // its lifetime
    await page.goto(redirect_url);
    await knobs({ push_order: 'event_first', auth_code_lifetime: '1h' });
    await shows(page, 'spent');
    await press(page); // Start again
    await shows(page, 'offer');
    await authorize(page, account);
    await works(account);
    await page.leave();
  },

  // The app's page has a link to lingpai's, and checks the signature itself.
  async return_to() {
    const page = await visitor();
    const account = await newAccount();
    const state = 'a b&c=中/+%';
    await page.goto(`${app}/?state=${encodeURIComponent(state)}`);
    await page.locator('a').click();
    await offered(page);
    await press(page);
    await shows(page, 'login');
    await confirm(page, account);
    await shows(page, 'app');
    assert.equal(await page.locator('main').innerText(), `signed;authorized;${account};${state}`);
    await works(account);
    // Back again, from the app's page, never to a page that redirects.
    await backToUsedLogin(page, account);
    await page.leave();
  },

  // Where WeChat sends the browser back without a code.
  async return_without_consent() {
    const page = await visitor();
    await page.goto(`${app}/?state=1`);
    await page.locator('a').click();
    await offered(page);
    const link = await page.locator('.button:visible').first().getAttribute('href');
    await page.goto(new URL(link).searchParams.get('redirect_uri'));
    await shows(page, 'cancelled');
    await page.locator('.button.quiet').click();
    await shows(page, 'app');
    assert.equal(await page.locator('main').innerText(), 'signed;cancelled;;1');
    await page.leave();
  },

  async return_to_a_stranger() {
    const page = await visitor();
    await page.goto(`${lingpai}/authorize?return_to=${encodeURIComponent('http://evil.test/')}`);
    await shows(page, 'bad_return');
    assert.equal(await page.locator('a').count(), 0);
    await page.leave();
  },
};

let tab; // one for all of these

// Event and redirect come in any order, with one code or two; either may be lost.
for (const push_order of ['event_first', 'redirect_first', 'event_late', 'event_twice', 'event_held', 'event_lost', 'redirect_lost']) {
  for (const redirect_code of ['same', 'different']) {
    steps[`${push_order}_${redirect_code}`] = async () => {
      const page = tab ??= await visitor();
      await fromElsewhere(page);
      const account = await newAccount();
      await knobs({ push_order, redirect_code, event_delay: '300ms' });
      await begin(page);
      await confirm(page, account);
      await shows(page, push_order === 'redirect_lost' ? 'redirect_lost' : 'done');
      if (push_order === 'redirect_lost') await eventually(() => works(account)); // the event is worked on afterwards
      else await works(account);
      if (push_order === 'event_held') await control('POST', 'held-events/release', {});
      if (push_order !== 'event_lost') {
        await eventually(async () => {
          const { pushes } = await control('GET', 'pushes');
          const own = pushes.filter((push) => push.app_id === account);
          assert.equal(own.length, push_order === 'event_twice' ? 2 : 1, 'pushes');
        });
      }
      await works(account);
    };
  }
}
// Such as the same code exchanged twice.
steps.nothing_twice = async () => assert.deepEqual((await control('GET', 'violations')).violations, []);

await run(steps);
