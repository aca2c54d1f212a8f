package importer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/store"
)

// left is how long the tokens of the tests still live.
const left = 5000 * time.Second

// system writes what an old system would have, and gives the flags to take it
// over.
type system struct {
	name string
	fill func(w *world) []string
	// What this system does not store.
	noTicket, noToken, noAccess, noGone bool
	ticketAge                           time.Duration // 0: not known
	authorizedAt                        bool          // of shop, one day ago
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

func php(text string) string { return fmt.Sprintf(`s:%d:"%s";`, len(text), text) }

func wxjava(prefix string, encode func(string) string, args ...string) func(*world) []string {
	return func(w *world) []string {
		url := w.redis()
		w.set(prefix+"wechat_component_verify_ticket:"+platformID, encode(w.ticket), 2147483647*time.Second-3*time.Minute)
		w.set(prefix+"wechat_component_access_token:"+platformID, encode(w.token), left)
		for appID, token := range w.refresh {
			w.set(prefix+"wechat_authorizer_refresh_token:"+platformID+":"+appID, encode(token), 0)
		}
		w.set(prefix+"wechat_authorizer_access_token:"+platformID+":"+shop, encode(w.access), left)
		// What is none of ours.
		w.set(prefix+"wechat_authorizer_refresh_token:wxffffffffffffffff:"+stranger, encode(w.refresh[shop]), 0)
		w.set(prefix+"wechat_jsapi_ticket:"+platformID+":"+shop, "jsticket", left)
		return append([]string{"-from", "wxjava", "-redis-url", url}, args...)
	}
}

func asIs(text string) string { return text }

func bagTime(t time.Time) string {
	return t.In(time.FixedZone("", 8*3600)).Format("2006-01-02T15:04:05.9999999-07:00")
}

func senparcBags(w *world) (component string, authorizers map[string]string) {
	encode := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	component = encode(map[string]any{
		"ComponentAppId": platformID, "ComponentAppSecret": "unused", "ComponentVerifyTicket": w.ticket,
		"ComponentVerifyTicketExpireTime": bagTime(time.Now().Add(7 * time.Minute)),
		"ComponentAccessTokenResult":      map[string]any{"component_access_token": w.token, "expires_in": 7200, "errcode": 0},
		"ComponentAccessTokenExpireTime":  bagTime(time.Now().Add(left)), "Key": platformID,
	})
	authorizers = map[string]string{}
	for appID, token := range w.refresh {
		info := map[string]any{"authorizer_appid": appID, "authorizer_refresh_token": token, "func_info": []any{}}
		until := "0001-01-01T00:00:00"
		if appID == shop {
			info["authorizer_access_token"], info["expires_in"] = w.access, 7200
			until = bagTime(time.Now().Add(left))
		}
		authorizers[appID] = encode(map[string]any{
			"AuthorizerAppId": appID, "ComponentAppId": platformID, "AuthorizationInfo": info, "AuthorizationInfoExpireTime": until,
		})
	}
	authorizers[stranger] = encode(map[string]any{"AuthorizerAppId": stranger, "ComponentAppId": "wxffffffffffffffff"})
	return component, authorizers
}

const senparcContainer = ":Container:Senparc.Weixin.Open.Containers."

func mysqlTime(t time.Time, zone int) string {
	return t.In(time.FixedZone("", zone*3600)).Format("2006-01-02 15:04:05")
}

// dump is what mysqldump writes of wxcomponent's database.
func dump(w *world, timeType string, zone int) string {
	return `-- MySQL dump 10.13  Distrib 8.0.30, for Linux (x86_64)
--
-- Host: localhost    Database: wxcomponent
/*!40103 SET TIME_ZONE='+00:00' */;
DROP TABLE IF EXISTS ` + "`authorizers`" + `;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE ` + "`authorizers` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `appid` varchar(64) NOT NULL DEFAULT '',\n  `nickname` varchar(64) DEFAULT NULL COMMENT 'a; name, (of sorts)',\n" +
		"  `refreshtoken` varchar(128) DEFAULT NULL,\n  `funcinfo` text,\n  `money` decimal(10,2) DEFAULT '0.00',\n  `authtime` " + timeType + " NOT NULL,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `uniq_appid` (`appid`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;" + `
LOCK TABLES ` + "`authorizers`" + ` WRITE;
INSERT INTO ` + "`authorizers`" + ` VALUES (1,'` + shop + `','It\'s ''the'' \"shop\"; (1)\n',` + "'" + w.refresh[shop] + `',NULL,1.50,'` + mysqlTime(time.Now().Add(-24*time.Hour), zone) + `'),(2,'` + idle + `',_utf8mb4'闲\\',` +
		"'" + w.refresh[idle] + `','[1,2]',-0.50,'0000-00-00 00:00:00'),(3,'` + gone + `',NULL,0x` + fmt.Sprintf("%x", w.refresh[gone]) + `,NULL,0.00,'2020-01-01 00:00:00');
UNLOCK TABLES;
CREATE TABLE ` + "`comm` (\n  `key` varchar(64) NOT NULL,\n  `value` text NOT NULL,\n  PRIMARY KEY (`key`)\n);" + `
INSERT INTO ` + "`comm`" + ` VALUES ('secret','bm90IGltcG9ydGVk'),('ticket','` + w.ticket + `');
CREATE TABLE ` + "`user` (`id` int, `name` text);" + `
INSERT INTO ` + "`user`" + ` VALUES (1,'INSERT INTO ` + "`comm`" + ` VALUES (1);');
CREATE TABLE ` + "`wxtoken` (\n  `type` int NOT NULL,\n  `appid` varchar(128) NOT NULL,\n  `token` text NOT NULL,\n  `expiretime` " + timeType + " NOT NULL,\n  `createtime` timestamp NULL DEFAULT CURRENT_TIMESTAMP,\n  PRIMARY KEY (`type`,`appid`)\n);" + `
INSERT INTO ` + "`wxtoken`" + ` VALUES (1,'` + shop + `','` + w.access + `','` + mysqlTime(time.Now().Add(left), zone) + `',NULL),(2,'` + platformID + `','` + w.token + `','` + mysqlTime(time.Now().Add(left), zone) + `',NULL);
-- Dump completed
`
}

func table(w *world) string {
	return fmt.Sprintf("\ufeffapp_id,refresh_token,access_token,expires_at,authorized_at\n%s,%s,%s,%d,%s\n%s,%s,,,\n%s,\"%s\",,,\n",
		shop, w.refresh[shop], w.access, time.Now().Add(left).Unix(), time.Now().Add(-24*time.Hour).Format(time.RFC3339),
		idle, w.refresh[idle], gone, w.refresh[gone])
}

// merchants is the table without access tokens.
func merchants(w *world) string {
	return fmt.Sprintf("app_id,refresh_token\n%s,%s\n%s,%s\n%s,%s\n", shop, w.refresh[shop], idle, w.refresh[idle], gone, w.refresh[gone])
}

var systems = []system{
	{name: "wxjava", fill: wxjava("wx:open:", asIs), ticketAge: 3 * time.Minute},
	{name: "wxjava without prefix", fill: wxjava("", asIs, "-prefix", ""), ticketAge: 3 * time.Minute},
	{name: "wxjava with a JSON codec", fill: wxjava("p*[:", quoted, "-prefix", "p*["), ticketAge: 3 * time.Minute},
	{name: "silenceper", noTicket: true, fill: func(w *world) []string {
		url := w.redis()
		w.set("component_access_token_"+platformID, w.token, left)
		for appID, token := range w.refresh {
			w.set("authorizer_refresh_token_"+appID, token, 10*365*24*time.Hour)
		}
		w.set("authorizer_access_token_"+shop, w.access, left)
		return []string{"-from", "silenceper", "-redis-url", url}
	}},
	{name: "wechatpy", fill: func(w *world) []string {
		url := w.redis()
		w.set("wechatpy:"+platformID+"_component_verify_ticket", quoted(w.ticket), 0)
		w.set("wechatpy:"+platformID+"_component_access_token", quoted(w.token), left)
		for appID, token := range w.refresh {
			w.set("wechatpy:"+appID+"_refresh_token", quoted(token), 0)
		}
		w.set("wechatpy:"+shop+"_access_token", quoted(w.access), left)
		return []string{"-from", "wechatpy", "-redis-url", url}
	}},
	{name: "fastwego", noAccess: true, fill: func(w *world) []string {
		url := w.redis()
		w.set("component_verify_ticket:"+platformID, w.ticket, 0)
		w.set(platformID, w.token, left)
		for appID, token := range w.refresh {
			w.set("authorizer_refresh_token:"+appID, token, 0)
		}
		w.set("authorizer_access_token:"+shop, w.access, 0)
		return []string{"-from", "fastwego", "-redis-url", url}
	}},
	{name: "senparc, keys", ticketAge: 3 * time.Minute, fill: func(w *world) []string {
		url := w.redis()
		component, authorizers := senparcBags(w)
		w.set("Senparc:DefaultCache"+senparcContainer+"ComponentBag:"+platformID, component, 0)
		for appID, bag := range authorizers {
			w.set("Senparc:DefaultCache"+senparcContainer+"AuthorizerBag:"+appID, bag, 0)
		}
		return []string{"-from", "senparc", "-redis-url", url}
	}},
	{name: "senparc, hash, namespace", ticketAge: 3 * time.Minute, fill: func(w *world) []string {
		url := w.redis()
		component, authorizers := senparcBags(w)
		w.do("HSET", "Senparc:Shop"+senparcContainer+"ComponentBag", platformID, component)
		for appID, bag := range authorizers {
			w.do("HSET", "Senparc:Shop"+senparcContainer+"AuthorizerBag", appID, bag)
			w.do("HSET", "Senparc:Other"+senparcContainer+"AuthorizerBag", appID, "{}")
		}
		return []string{"-from", "senparc", "-redis-url", url, "-namespace", "Shop"}
	}},
	{name: "senparc, old, wrapped", ticketAge: 3 * time.Minute, fill: func(w *world) []string {
		url := w.redis()
		component, authorizers := senparcBags(w)
		wrap := func(bag string) string { return `{"Type":"Senparc, Version=1","Object":` + bag + `}` }
		const types = ":Container:Senparc.Weixin.Open.ComponentAPIs."
		w.set("SenparcWeixin:DefaultCache"+types+"ComponentBag:"+platformID, wrap(component), 0)
		for appID, bag := range authorizers {
			w.set("SenparcWeixin:DefaultCache"+types+"AuthorizerBag:"+appID, wrap(bag), 0)
		}
		return []string{"-from", "senparc", "-redis-url", url, "-prefix", "SenparcWeixin"}
	}},
	{name: "easywechat 6 with a table", ticketAge: 3 * time.Minute, fill: func(w *world) []string {
		url := w.redis()
		w.set("app:open_platform.verify_ticket."+platformID, php(w.ticket), 6000*time.Second-3*time.Minute)
		w.set("app:open_platform.component_access_token."+platformID, php(w.token), left)
		w.set("app:open-platform.authorizer_access_token."+shop+"."+md5Hex(w.refresh[shop]), php(w.access), left)
		return []string{"-from", "easywechat", "-redis-url", url, "-prefix", "app:", "-file", w.file("m.csv", merchants(w))}
	}},
	{name: "easywechat 5 with WeChat's list", ticketAge: 3 * time.Minute, noGone: true, authorizedAt: true, fill: func(w *world) []string {
		url := w.redis()
		array := func(name, token string) string {
			return fmt.Sprintf(`a:2:{s:%d:"%s";%ss:10:"expires_in";i:7200;}`, len(name), name, php(token))
		}
		w.set("easywechat.open_platform.verify_ticket."+platformID, php(w.ticket), 3600*time.Second-3*time.Minute)
		w.set("easywechat.kernel.access_token."+md5Hex(`{"component_appid":"`+platformID+`","component_appsecret":"0123456789abcdef0123456789abcdef","component_verify_ticket":"`+w.ticket+`"}`),
			array("component_access_token", w.token), left)
		w.set("easywechat.kernel.access_token."+md5Hex(`{"component_appid":"`+platformID+`","authorizer_appid":"`+shop+`","authorizer_refresh_token":"`+w.refresh[shop]+`"}`),
			array("authorizer_access_token", w.access), left)
		return []string{"-from", "easywechat", "-redis-url", url}
	}},
	{name: "powerwechat", ticketAge: 3 * time.Minute, fill: func(w *world) []string {
		url := w.redis()
		object := func(name, token string) string { return fmt.Sprintf(`{"%s":"%s","expires_in":7200}`, name, token) }
		w.set("powerwechat.open_platform.verify_ticket."+platformID, quoted(w.ticket), 3600*time.Second-3*time.Minute)
		w.set("powerwechat.access_token."+md5Hex(platformID+"0123456789abcdef0123456789abcdef"+w.ticket), object("component_access_token", w.token), left)
		w.set("powerwechat.access_token."+md5Hex(platformID+w.refresh[shop]+shop), object("authorizer_access_token", w.access), left)
		return []string{"-from", "powerwechat", "-redis-url", url, "-file", w.file("m.csv", merchants(w))}
	}},
	{name: "wxcomponent, TIMESTAMP", authorizedAt: true, fill: func(w *world) []string {
		return []string{"-from", "wxcomponent", "-file", w.file("dump.sql", dump(w, "timestamp", 0)), "-time-zone", "-05:00"}
	}},
	{name: "wxcomponent, DATETIME", authorizedAt: true, fill: func(w *world) []string {
		return []string{"-from", "wxcomponent", "-file", w.file("dump.sql", dump(w, "datetime(3)", 8))}
	}},
	{name: "csv", noTicket: true, noToken: true, authorizedAt: true, fill: func(w *world) []string {
		return []string{"-from", "csv", "-file", w.file("m.csv", table(w)), "-verify", "none"}
	}},
	{name: "json", noTicket: true, noToken: true, authorizedAt: true, fill: func(w *world) []string {
		text := fmt.Sprintf(`[{"app_id":%q,"refresh_token":%q,"access_token":%q,"expires_at":%d,"authorized_at":%q},`+"\n"+`{"app_id":%q,"refresh_token":%q,"access_token":null},{"app_id":%q,"refresh_token":%q}]`,
			shop, w.refresh[shop], w.access, time.Now().Add(left).Unix(), time.Now().Add(-24*time.Hour).Format(time.RFC3339), idle, w.refresh[idle], gone, w.refresh[gone])
		return []string{"-from", "json", "-file", w.file("m.json", text), "-verify", "none"}
	}},
}

// Every kind, written as its SDK writes it, comes out as the same records. A dry
// run changes nothing, and a second run neither.
func TestEveryKind(t *testing.T) {
	for _, system := range systems {
		t.Run(system.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			args := system.fill(w)
			unverified := system.noToken
			before := w.content()
			dry := w.want(0, args...)
			same(t, "a dry run changes nothing", w.content(), before)
			contains(t, dry.stdout, "dry run")

			began := time.Now()
			wet := w.want(0, append(args, "-write")...)
			contains(t, wet.stdout, "What next")
			got := w.content()
			system.check(t, w, got, unverified, began)

			again := w.report(0, append(args, "-write")...)
			same(t, "a second run changes nothing", w.content(), got)
			if again.Summary[outcomeNew]+again.Summary[outcomeUpdated] > 0 {
				t.Errorf("a second run writes: %+v", again)
			}
			if n := len(w.wechat.CallsTo("/cgi-bin/component/api_component_token")); n != 1 {
				t.Errorf("%d calls of api_component_token: each ends the old system's token", n-1)
			}
			same(t, "violations", len(w.wechat.Violations()), 0)
		})
	}
}

// check compares the records with what the world has.
func (s system) check(t *testing.T, w *world, got content, unverified bool, began time.Time) {
	t.Helper()
	near := func(what string, got, want time.Time) {
		t.Helper()
		if d := got.Sub(want).Abs(); d > 10*time.Second {
			t.Errorf("%s is %v, want about %v", what, got, want)
		}
	}
	appIDs := []string{shop, idle}
	if unverified {
		appIDs = append(appIDs, gone) // WeChat was not asked
	}
	same(t, "number of records", len(got.authorizers), len(appIDs))
	for _, appID := range appIDs {
		a := got.authorizers[appID]
		same(t, appID+" state", a.State, store.StateActive)
		same(t, appID+" refresh token", a.RefreshToken.Reveal(), w.refresh[appID])
		same(t, appID+" generation", a.Token.Generation, uint64(1))
		if appID == shop && !s.noAccess {
			same(t, "access token", a.Token.Value.Reveal(), w.access)
			near("its end", a.Token.ExpiresAt, began.Add(left))
			if a.Token.ExpiresAt.After(time.Now().Add(left)) {
				t.Error("the access token lives longer than it does")
			}
			near("its beginning", a.Token.RefreshedAt, began.Add(left-2*time.Hour))
		} else if !a.Token.Value.Empty() {
			t.Errorf("%s has an access token", appID)
		}
		if appID == shop && s.authorizedAt && !s.noGone {
			near("authorized at", a.AuthorizedAt, began.Add(-24*time.Hour))
		}
		if !unverified && !s.noGone {
			same(t, "scopes", len(a.Scopes), 15)
		}
	}
	if s.noTicket {
		same(t, "ticket", got.component.Ticket.Reveal(), "")
	} else {
		same(t, "ticket", got.component.Ticket.Reveal(), w.ticket)
		age := s.ticketAge
		if age == 0 {
			age = unknownTicketAge
		}
		near("ticket received", got.component.TicketReceivedAt, began.Add(-age))
		if !got.component.TicketCreatedAt.IsZero() {
			t.Error("a pushed ticket may not replace it")
		}
	}
	if s.noToken {
		same(t, "component token", got.component.Token.Value.Reveal(), "")
	} else {
		same(t, "component token", got.component.Token.Value.Reveal(), w.token)
		near("its end", got.component.Token.ExpiresAt, began.Add(left))
	}
}

// Many accounts are compared with WeChat's list, a call for 500 of them; few are
// asked about one by one.
func TestListForMany(t *testing.T) {
	t.Parallel()
	for _, many := range []int{infoUpTo, infoUpTo + 1, 1300} {
		w := newWorld(t)
		url := w.redis()
		w.set("wx:open:wechat_component_access_token:"+platformID, w.token, left)
		w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+gone, w.refresh[gone], 0)
		for i := range many - 1 {
			appID := fmt.Sprintf("wx%016x", i)
			w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+appID, w.wechat.AddAuthorizer(appID), 0)
		}
		w.wechat.ResetCalls()
		r := w.report(0, "-from", "wxjava", "-redis-url", url, "-write")
		same(t, "new", r.Summary[outcomeNew], many-1)
		same(t, "unauthorized", r.Summary[outcomeUnauthorized], 1)
		same(t, "records", len(w.content().authorizers), many-1)
		lists, infos := w.wechat.Count("/cgi-bin/component/api_get_authorizer_list"), w.wechat.Count("/cgi-bin/component/api_get_authorizer_info")
		if many <= infoUpTo {
			same(t, "calls", [2]int{lists, infos}, [2]int{1, many})
			continue
		}
		same(t, "calls", [2]int{lists, infos}, [2]int{1 + (many+1+listPage-1)/listPage, 0})
		same(t, "in the list, not in the source", r.NotInSource, 2) // shop and idle
		for _, a := range w.content().authorizers {
			if a.AuthorizedAt.IsZero() {
				t.Fatal("auth_time is not taken")
			}
		}
		text := w.want(0, "-from", "wxjava", "-redis-url", url).stdout
		if n := strings.Count(text, "\n"); n > 20 {
			t.Errorf("a report of %d lines:\n%s", n, text)
		}
	}
}
