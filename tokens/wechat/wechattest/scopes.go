package wechattest

import "slices"

// Types of accounts, numbered as the auth_type that admits them alone.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
const (
	TypeOfficialAccount = 1 // 公众号
	TypeMiniProgram     = 2 // 小程序
	TypePromoter        = 4 // 小程序推客
	TypeChannels        = 5 // 视频号
	TypeSalesAssistant  = 8 // 带货助手
)

// accountTypes are the types with WeChat's names for them.
var accountTypes = []struct {
	id       int
	zh, name string
}{
	{TypeOfficialAccount, "公众号", "official account"},
	{TypeMiniProgram, "小程序", "mini program"},
	{TypePromoter, "小程序推客", "mini program promoter"},
	{TypeChannels, "视频号", "channels"},
	{TypeSalesAssistant, "带货助手", "sales assistant"},
}

// authTypes are the values of auth_type with the account types they admit.
var authTypes = map[int][]int{
	1: {TypeOfficialAccount},
	2: {TypeMiniProgram},
	3: {TypeOfficialAccount, TypeMiniProgram},
	4: {TypePromoter},
	5: {TypeChannels},
	6: {TypeOfficialAccount, TypeMiniProgram, TypePromoter, TypeChannels, TypeSalesAssistant},
	8: {TypeSalesAssistant},
}

// typeName is an account type in both languages.
func typeName(id int) string {
	for _, t := range accountTypes {
		if t.id == id {
			return t.zh + " " + t.name
		}
	}
	return "账号 account"
}

// Permission sets of the two common types of accounts.
var (
	officialScopes    = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15}
	miniProgramScopes = []int{17, 18, 19, 25, 30, 31, 37, 40}
)

// scopeNames are WeChat's names of the permission sets offered; the numbers are
// what programs see.
var scopeNames = map[int]string{
	1: "消息管理 messages", 2: "用户管理 users", 3: "帐号服务 account services", 4: "网页服务 web pages",
	5: "微信小店 shop", 6: "多客服 customer service", 7: "群发与通知 broadcasts", 8: "微信卡券 cards",
	9: "扫一扫 scan", 10: "连WIFI Wi-Fi", 11: "素材管理 media", 12: "摇周边 shake nearby",
	13: "微信门店 stores", 15: "自定义菜单 menus",
	17: "帐号管理 account", 18: "开发管理与数据分析 development", 19: "客服消息管理 customer service",
	25: "开放平台帐号管理 open platform", 30: "基本信息管理 basic information", 31: "小程序认证 verification",
	37: "附近的小程序 nearby", 40: "广告管理 advertisements",
}

func scopeName(id int) string {
	if name := scopeNames[id]; name != "" {
		return name
	}
	return "权限集 permission set"
}

// scopesOf are the permission sets that accounts of a type can grant.
func scopesOf(accountType int) []int {
	if accountType == TypeOfficialAccount {
		return slices.Clone(officialScopes)
	}
	return slices.Clone(miniProgramScopes)
}

// sameScopes compares permission sets, whatever their order.
func sameScopes(a, b []int) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// common returns what is in both lists, in the order of the first.
func common(list, other []int) []int {
	out := []int{}
	for _, id := range list {
		if slices.Contains(other, id) {
			out = append(out, id)
		}
	}
	return out
}
