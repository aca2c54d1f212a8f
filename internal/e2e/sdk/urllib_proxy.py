"""Python's urllib with HTTP_PROXY: the app's address of WeChat stays, but for http."""

import hashlib
import json
import os
import sys
import urllib.error
import urllib.request

WECHAT = "http://api.weixin.qq.com"
APP_ID = os.environ["AUTHORIZER_APPID"]
failed = False


def step(name, action):
    global failed
    try:
        ok, detail = True, action()
    except Exception as err:  # whatever it is, it is this step's fault
        ok, detail, failed = False, f"{type(err).__name__}: {err}", True
    print(json.dumps({"step": name, "ok": ok, "detail": str(detail)}), flush=True)


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(WECHAT + path, data, timeout=30) as answer:
        return answer.read()


def component_call():
    n = json.loads(call("/cgi-bin/component/api_get_authorizer_list", {"offset": 0, "count": 10}))["total_count"]
    assert n > 0
    return f"{n} authorizers"


def authorizer_call():
    assert json.loads(call(f"/cgi-bin/menu/get?from_appid={APP_ID}"))["errcode"] == 0
    return "ok"


def download():
    data = call(f"/cgi-bin/media/get?from_appid={APP_ID}&media_id={os.environ['MEDIA_ID']}")
    assert hashlib.sha256(data).hexdigest() == os.environ["MEDIA_SHA256"]
    return f"{len(data)} bytes"


def own_error():
    try:
        call("/cgi-bin/menu/get?from_appid=wxffffffffffffffff")
    except urllib.error.HTTPError as err:
        assert err.headers["Proxy-Status"].startswith("lingpai; error=")
        return f"{err.code} {json.loads(err.read())['errcode']}"
    raise AssertionError("was not refused")


step("component_call", component_call)
step("authorizer_call", authorizer_call)
step("download", download)
step("own_error", own_error)
sys.exit(failed)
