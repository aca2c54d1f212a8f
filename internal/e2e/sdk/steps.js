'use strict';

// What the scripts in this folder share: they are given an address and
// credentials in the environment, do one step after the other, and print one
// line of JSON for each: {"step": …, "ok": …, "detail": …}.

const assert = require('node:assert/strict');

// env returns a variable that the test has to set.
function env(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

// run does the steps in their order, all of them even if one fails.
async function run(steps) {
  for (const [step, action] of Object.entries(steps)) {
    let ok = true;
    let detail;
    try {
      detail = await action();
    } catch (err) {
      ok = false;
      const answer = err.response?.data;
      detail = `${err.message}${answer ? ` ${JSON.stringify(answer)}` : ''}`.slice(0, 400);
      process.exitCode = 1;
    }
    process.stdout.write(`${JSON.stringify({ step, ok, detail: String(detail ?? '') })}\n`);
  }
}

// fails returns what an action is refused with.
async function fails(action) {
  try {
    await action();
  } catch (err) {
    return err;
  }
  throw new Error('was not refused');
}

// picture is what the scripts upload: no character set survives these bytes.
const picture = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));

function samePicture(data) {
  assert.ok(Buffer.from(data).equals(picture), 'the download has other bytes than the upload');
  return `${picture.length} bytes`;
}

// signed checks a configuration for wx.config.
function signed(config, appId) {
  assert.equal(config.appId, appId);
  assert.match(config.signature, /^[0-9a-f]{40}$/);
  return 'signed';
}

function isPNG(data) {
  assert.equal(Buffer.from(data).subarray(1, 4).toString(), 'PNG');
  return `${data.length} bytes`;
}

module.exports = { assert, env, run, fails, picture, samePicture, signed, isPNG };
