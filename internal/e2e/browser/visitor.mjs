// What the two scripts in this folder share: a headless Chromium, visitors whose
// every page is watched, and the simulator's controls. A script is given
// addresses in the environment, does one step after the other, and prints one
// line of JSON for each: {"step": …, "ok": …, "detail": …}.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const axe = createRequire(import.meta.url)('axe-core').source;

export const lingpai = process.env.LINGPAI; // callback.public_url
export const silent = process.env.SILENT; // the same pages for a browser that does not say what it asks for
const wechat = process.env.WECHAT;

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // Pages that are kept for the back button are what people have, too.
  ignoreDefaultArgs: ['--disable-back-forward-cache'],
  // No name leads anywhere.
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
});

// wrong is what the watch over all pages has found, and no step said.
const wrong = [];
let visitors = 0;
let sources = 0;

const android = 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Mobile Safari/537.36';

// fromElsewhere gives a tab another address: visits are limited for each.
export const fromElsewhere = (page, more) => page.setExtraHTTPHeaders({ 'X-Forwarded-For': `10.0.0.${++visitors}`, ...more });

// visitor opens a tab without history or cookies. Everything that happens in it is
// watched.
export async function visitor({ phone = false, inWeChat = false, language = 'en-US' } = {}) {
  const context = await browser.newContext({
    viewport: phone ? { width: 390, height: 844 } : { width: 1280, height: 900 },
    deviceScaleFactor: phone ? 2 : 1,
    isMobile: phone,
    hasTouch: phone,
    userAgent: phone ? android + (inWeChat ? ' MicroMessenger/8.0.50' : '') : undefined,
    locale: language,
  });
  context.setDefaultTimeout(10_000);
  context.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol !== 'http:' || hostname !== '127.0.0.1') wrong.push(`a request to ${request.url()}`);
  });
  context.on('response', async (response) => {
    if (response.headers()['set-cookie']) wrong.push(`a cookie from ${where(response.url())}`);
    if (!response.url().startsWith(lingpai) || response.status() === 303) return;
    const source = await response.text().catch(() => ''); // the tab went on before it was there
    if (source) writeFileSync(`source-${++sources}.html`, source); // the test looks for secrets in these files
  });
  context.on('console', (message) => {
    // Chromium says this of every page whose status is above 399.
    const status = /^Failed to load resource: the server responded with a status of \d+/.test(message.text()) &&
      message.location().url === message.page()?.url();
    if (['error', 'warning'].includes(message.type()) && !status) {
      wrong.push(`the console of ${where(message.location().url)}: ${message.text()}`);
    }
  });
  context.on('weberror', (error) => wrong.push(`a script's error: ${error.error().message}`));
  const page = await context.newPage();
  await fromElsewhere(page);
  page.leave = async () => {
    await findCookies(context);
    await context.close();
  };
  return page;
}

async function findCookies(context) {
  for (const { name } of await context.cookies()) wrong.push(`the cookie ${name} is kept`);
}

// where names a page without what only its visitor may know.
const where = (url) => url.replace(/\?.*/s, '?…');

// shows waits until a page of the name that its body has is there.
export async function shows(page, name) {
  const body = page.locator('body[data-page]');
  await body.waitFor({ state: 'attached' });
  assert.equal(await body.getAttribute('data-page'), name, where(page.url()));
}

// begin opens the page with the button and follows it to WeChat's login page.
export async function begin(page, url = `${lingpai}/authorize`) {
  await page.goto(url);
  await offered(page);
  await press(page);
  await shows(page, 'login');
}

// offered waits for the button, which takes an old browser one click more.
export async function offered(page) {
  if (lingpai === silent) {
    await shows(page, 'ask_first');
    await press(page);
  }
  await shows(page, 'offer');
}

// press clicks the one big button of a page of lingpai's.
export async function press(page) {
  await Promise.all([page.waitForEvent('framenavigated'), page.locator('.button:visible').first().click()]);
}

// back presses the browser's button. It does not wait for the page to be loaded:
// one that was kept is not.
export const back = (page) => page.goBack({ waitUntil: 'commit' });

// confirm picks an account on WeChat's login page and confirms.
export async function confirm(page, appId) {
  await page.locator(`[value="${appId}"]`).check();
  await Promise.all([page.waitForEvent('framenavigated'), page.locator('[value=confirm]').click()]);
}

// control calls the simulator's control API.
export async function control(method, path, body) {
  const response = await fetch(`${wechat}/_simulate/v1/${path}`, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.ok(response.ok, `${path}: ${answer.error}`);
  return answer;
}

// knobs changes some of the simulator's.
export const knobs = (change) => control('PATCH', 'knobs', change);

// newAccount has WeChat's login pages offer one more account.
let accounts = 0;
export async function newAccount(more = {}) {
  const appId = `wx${(0xb000 + ++accounts).toString(16).padStart(16, '0')}`;
  await control('POST', 'login-accounts', { app_id: appId, nick_name: `测试账号 ${accounts}`, ...more });
  return appId;
}

// eventually polls until action succeeds.
export async function eventually(action) {
  for (const end = Date.now() + 10_000; ; await pause(20)) {
    try {
      return await action();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

// flaws are the serious and critical faults that axe finds on a page as it is.
export async function flaws(page) {
  // evaluate works in spite of the page's Content-Security-Policy.
  if (!await page.evaluate('"axe" in window')) await page.evaluate(axe);
  const { violations } = await page.evaluate('axe.run({ preload: false, resultTypes: ["violations"] })');
  return violations.filter((v) => ['serious', 'critical'].includes(v.impact))
    .flatMap((v) => v.nodes.map((node) => `${v.id} ${node.target}: ${node.any[0]?.message ?? v.help}`));
}

// shot keeps a picture of the whole page, if somebody wants to look at them.
export async function shot(page, name) {
  if (!process.env.SCREENSHOTS) return;
  mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
}

// run does the steps that are asked for, all of them even if one fails; the last
// one, watch, is what every page was watched for.
export async function run(steps) {
  steps.watch = async () => {
    for (const context of browser.contexts()) await findCookies(context);
    assert.deepEqual([...new Set(wrong)], []);
  };
  for (const step of `${process.env.STEPS} watch`.split(' ')) {
    const began = Date.now();
    let ok = true;
    let detail;
    try {
      await steps[step]();
    } catch (error) {
      ok = false;
      detail = error.message.slice(0, 1500);
      process.exitCode = 1;
    }
    process.stdout.write(`${JSON.stringify({ step, ok, detail: detail ?? `${Date.now() - began} ms` })}\n`);
  }
  await browser.close();
}
