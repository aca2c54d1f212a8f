'use strict'
// Reads an encrypted passive reply from standard input, as WeChat would, and
// prints what is in it.
const Crypt = require('wechat-crypto')

const [token, key, appId] = process.argv.slice(2)
const xml = require('node:fs').readFileSync(0, 'utf8')
const field = (name) => {
  const found = xml.match(new RegExp(`<${name}>(?:<!\\[CDATA\\[)?(.*?)(?:\\]\\]>)?</${name}>`, 's'))
  if (!found) throw new Error(`no ${name} in the reply`)
  return found[1]
}
const crypt = new Crypt(token, key, appId)
const encrypt = field('Encrypt')
if (crypt.getSignature(field('TimeStamp'), field('Nonce'), encrypt) !== field('MsgSignature')) {
  throw new Error('the signature does not hold')
}
const opened = crypt.decrypt(encrypt)
if (opened.id !== appId) throw new Error('it is for another platform')
console.log(opened.message)
