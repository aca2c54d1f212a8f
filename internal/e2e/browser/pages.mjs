// Pages: each that lingpai has, and the simulator's, on a phone and a desktop,
// light and dark, in Chinese and English: nothing sticks out, axe finds nothing
// serious, and pictures are kept if SCREENSHOTS names a folder.
//
// Not here is store_down, which needs a store that breaks; it is busy with another
// text.

import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { begin, confirm, control, flaws, fromElsewhere, knobs, lingpai, newAccount, run, shot, shows, silent, visitor } from './visitor.mjs';

const app = process.env.APP;
const created = '/cgi-bin/component/api_create_preauthcode';
const exchanged = '/cgi-bin/component/api_query_auth';

// fault breaks the next calls of a path.
const fault = (path, more) => control('POST', 'faults', { path, ...more });

// done is where WeChat would send a visitor who asked for query, with code.
async function done(page, query, code) {
  await page.goto(`${lingpai}/authorize?${query}`);
  const link = await page.locator('.button:visible').first().getAttribute('href');
  const url = new URL(new URL(link).searchParams.get('redirect_uri'));
  if (code) url.searchParams.set('auth_code', code);
  await page.goto(String(url));
}

// code is one for an account that authorizes without a browser.
async function code(account) {
  const { code } = await control('POST', 'authorize', { app_id: account, without_push: true, nick_name: '小店' });
  return code;
}

// tooOld is a state of three hours ago: it cannot be waited for. The key is made
// as in proxy/authorize/state.go.
function tooOld() {
  const key = Buffer.from(hkdfSync('sha256', process.env.APP_SECRET, '', 'lingpai authorization page state 1', 32));
  const payload = Buffer.from(JSON.stringify({ t: 3, i: Math.floor(Date.now() / 1000) - 3 * 3600 })).toString('base64url');
  return `${payload}.${createHmac('sha256', key).update(payload).digest('base64url')}`;
}

const returning = `return_to=${encodeURIComponent(`${app}/`)}&state=1`;
const home = `${lingpai}/authorize`;

// Each is led to by its function, and has the name that lingpai gives it unless
// name says otherwise.
const pages = {
  // Before the first ticket.
  not_ready: (page) => page.goto(home),
  offer: async (page) => {
    await control('POST', 'ticket', {});
    await page.goto(home);
  },
  'offer/one_account': (page) => page.goto(`${home}?type=6&biz_appid=wx00112233445566778899`),
  'offer/over': async (page) => {
    await knobs({ pre_auth_code_lifetime: '31s' }); // lingpai's margin is 30 s
    await page.goto(home);
    await knobs({ pre_auth_code_lifetime: '30m' });
    await page.locator('.after .button').waitFor();
  },
  ask_first: (page) => page.goto(`${silent}/authorize`),
  'login/simulator': (page) => begin(page),
  'cancelled/simulator': async (page) => {
    await begin(page);
    await Promise.all([page.waitForEvent('framenavigated'), page.locator('[value=cancel]').click()]);
  },
  'error/simulator': async (page) => {
    await begin(page);
    await page.goto(page.url().replace('#wechat_redirect', '')); // without a Referer
  },
  done: async (page) => {
    const account = await newAccount({ nick_name: '四海一家（国际）餐饮管理有限公司官方旗舰店' });
    await begin(page);
    await confirm(page, account);
  },
  'done/without_permissions': async (page) => {
    const account = await newAccount({ type: 2, nick_name: 'A name without any blank:Donaudampfschifffahrtsgesellschaft' });
    await begin(page);
    for (const box of await page.locator('[name=scope]').all()) await box.uncheck();
    await confirm(page, account);
  },
  other_account: async (page) => done(page, `biz_appid=wx00112233445566&${returning}`, await code(await newAccount())),
  cancelled: (page) => done(page, returning),
  expired: (page) => page.goto(`${home}/done?auth_code=x&state=${tooOld()}`),
  forged: (page) => page.goto(`${home}/done?auth_code=x&state=y`),
  spent: async (page) => {
    await fault(exchanged, { kind: 'errcode', errcode: 61010, times: 1 });
    await page.goto(`${home}/done?auth_code=queryauthcode%40%40%40x`); // of a link that an app made: what it was for is not known
  },
  ended: async (page) => {
    const account = await newAccount();
    await begin(page);
    await confirm(page, account);
    await shows(page, 'done');
    await control('POST', 'unauthorize', { app_id: account });
    for (let seen = 'done'; seen === 'done';) { // the event is worked on afterwards
      await page.reload();
      seen = await page.locator('body').getAttribute('data-page');
    }
  },
  bad_link: (page) => page.goto(`${home}?type=7`),
  bad_return: (page) => page.goto(`${home}?return_to=https://evil.test/`),
  embedded: async (page) => {
    await fromElsewhere(page, { Purpose: 'prefetch' });
    await page.goto(`${home}/done?auth_code=x`);
  },
  busy: async (page) => {
    await fault(created, { kind: 'errcode', errcode: -1, times: 1 });
    await page.goto(home);
  },
  unreachable: async (page) => {
    await fault(created, { kind: 'cut', for: '10s' });
    await page.goto(home);
    await control('DELETE', 'faults');
  },
  too_many: async (page) => {
    await page.setExtraHTTPHeaders({ 'X-Forwarded-For': '10.1.1.1' }); // the same for all looks: there is a limit for all visitors, too
    for (let seen = ''; seen !== 'too_many';) {
      await page.goto(`${home}/done?auth_code=x`);
      seen = await page.locator('body').getAttribute('data-page');
    }
  },
  // The last two: WeChat is left alone for a while after them.
  quota: async (page) => {
    await fault(exchanged, { kind: 'errcode', errcode: 45009, times: 1 });
    await done(page, returning, await code(await newAccount()));
  },
  unconfigured: async (page) => {
    await fault(created, { kind: 'errcode', errcode: 40125, times: 1 });
    await page.goto(home);
  },
};

// judge looks at a page as it is, in both themes.
async function judge(page, name, look) {
  const found = [];
  for (const theme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: theme });
    for (const flaw of look.forEyes ? [] : await flaws(page)) {
      found.push(`${name}, ${theme}: ${flaw}`);
    }
    await shot(page, `${name}-${theme}`);
  }
  const outside = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  if (outside > 0) found.push(`${name}: ${outside} pixels wider than the window`);
  return found;
}

// The other language on each device is for eyes only.
const looks = [{ phone: true, language: 'zh-CN' }, { phone: false, language: 'en-US' }];
if (process.env.SCREENSHOTS) looks.push({ phone: true, language: 'en-US', forEyes: true }, { phone: false, language: 'zh-CN', forEyes: true });

for (const look of looks) look.page = await visitor(look); // opening a tab takes as long as all else

const steps = {};
for (const [name, open] of Object.entries(pages)) {
  steps[name] = async () => {
    const found = [];
    for (const look of looks) {
      const { page } = look;
      await fromElsewhere(page);
      await open(page);
      await shows(page, name.replace(/\/.*/, ''));
      assert.equal(await page.locator('html').getAttribute('lang'), name.endsWith('/simulator') ? 'zh-CN' : look.language.replace('-US', ''));
      found.push(...await judge(page, `${name.replace('/', '-')}-${look.phone ? 'phone' : 'desktop'}-${look.language.slice(0, 2)}`, look));
    }
    assert.deepEqual(found, []);
  };
}
await run(steps);
