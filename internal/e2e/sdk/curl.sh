#!/bin/sh
# curl against lingpai: each way in, a download, an error of lingpai's own.
set -u

# expect STEP PATTERN TEXT prints whether TEXT matches PATTERN.
expect() {
  if printf '%s' "$3" | grep -Eq "$2"; then ok=true; else ok=false; failed=1; fi
  printf '{"step":"%s","ok":%s,"detail":"%s"}\n' "$1" "$ok" "$(printf '%s' "$3" | tr -d '"\\\r\n' | cut -c1-300)"
}
failed=0
call() { curl -sS --noproxy '*' "$@" 2>&1; }

expect component_call '"total_count":[1-9]' \
  "$(call "$LINGPAI/cgi-bin/component/api_get_authorizer_list" -d '{"offset":0,"count":10}')"
expect authorizer_call '"errcode":0' "$(call "$LINGPAI/cgi-bin/menu/get?from_appid=$AUTHORIZER_APPID")"
expect authorizer_call_by_header '"errcode":0' "$(call -H "X-Wechat-Appid: $AUTHORIZER_APPID" "$LINGPAI/cgi-bin/menu/get")"
expect authorizer_call_by_path '"errcode":0' "$(call "$LINGPAI/@$AUTHORIZER_APPID/cgi-bin/menu/get")"
expect authorizer_call_by_proxy '"errcode":0' \
  "$(curl -sS --noproxy '' -x "$LINGPAI" "http://api.weixin.qq.com/cgi-bin/menu/get?from_appid=$AUTHORIZER_APPID" 2>&1)"
expect authorizer_call_by_alias '"errcode":0' \
  "$(call --connect-to "api.weixin.qq.com:80:${LINGPAI#http://}" "http://api.weixin.qq.com/cgi-bin/menu/get?from_appid=$AUTHORIZER_APPID")"
expect cloud_run_call '"errcode":0' "$(call "$LINGPAI/cgi-bin/menu/get?cloudbase_access_token=TOKEN@$AUTHORIZER_APPID")"
expect download "^$MEDIA_SHA256 " \
  "$(call "$LINGPAI/cgi-bin/media/get?from_appid=$AUTHORIZER_APPID&media_id=$MEDIA_ID" | sha256sum)"
expect own_error '^404 lingpai; error=.* .*"errcode":990404' "$(call -o error.json \
  -w '%{http_code} %header{proxy-status} ' "$LINGPAI/cgi-bin/menu/get?from_appid=wxffffffffffffffff"; cat error.json)"
expect no_tunnel '40[05]' "$(call -p -x "$LINGPAI" --noproxy '' https://api.weixin.qq.com/cgi-bin/menu/get)"
exit $failed
