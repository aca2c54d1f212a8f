package authorize

import "strconv"

// scopeNames are the permission sets that are documented, with what the Chinese
// names say in English. Others are shown by their number.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/product/third_party_authority_instructions.html
var scopeNames = map[int]text{
	1:  {"消息管理", "Messages"},
	2:  {"用户管理", "Users and followers"},
	3:  {"帐号服务", "Account services"},
	4:  {"网页服务", "Web pages"},
	5:  {"微信小店", "WeChat shop"},
	6:  {"微信多客服", "Customer service staff"},
	7:  {"群发与通知", "Broadcasts and notifications"},
	8:  {"微信卡券", "Cards and coupons"},
	9:  {"微信扫一扫", "WeChat scan"},
	10: {"微信连 Wi-Fi", "Wi-Fi via WeChat"},
	11: {"素材管理", "Media and materials"},
	12: {"微信摇周边", "Shake nearby"},
	13: {"微信门店", "WeChat stores"},
	14: {"微信支付", "WeChat Pay"},
	15: {"自定义菜单", "Custom menu"},
	16: {"获取认证状态及信息", "Verification status"},
	17: {"帐号管理（小程序）", "Account and codes (mini program)"},
	18: {"开发管理与数据分析（小程序）", "Development and data analysis (mini program)"},
	19: {"客服消息管理（小程序）", "Customer service messages (mini program)"},
	20: {"微信登录（小程序）", "WeChat login (mini program)"},
	21: {"数据分析（小程序）", "Data analysis (mini program)"},
	22: {"城市服务接口", "City services"},
	23: {"广告管理", "Advertisements"},
	24: {"开放平台帐号管理", "Open Platform account"},
	25: {"开放平台帐号管理（小程序）", "Open Platform account (mini program)"},
	26: {"微信电子发票", "Electronic invoices"},
	27: {"快速注册小程序", "Quick registration of mini programs"},
	30: {"小程序基本信息设置", "Basic information (mini program)"},
	31: {"小程序认证", "Verification and naming (mini program)"},
	33: {"小程序管理", "Linked mini programs"},
	34: {"微信商品库", "Product catalogue"},
	35: {"微信卡路里", "WeChat calories"},
	36: {"微信卡路里（小程序）", "WeChat calories (mini program)"},
	37: {"附近的小程序", "Nearby places (mini program)"},
	40: {"插件管理（小程序）", "Plug-ins (mini program)"},
	41: {"好物圈（小程序）", "Good finds (mini program)"},
	44: {"好物圈", "Good finds"},
	45: {"物流助手（小程序）", "Parcel delivery (mini program)"},
	46: {"微信一物一码", "One code per item"},
	47: {"微信财政电子票据", "Public electronic receipts"},
	48: {"微信财政电子票据（小程序）", "Public electronic receipts (mini program)"},
	49: {"云开发管理（小程序）", "Cloud development (mini program)"},
	51: {"即时配送（小程序）", "Instant delivery (mini program)"},
	52: {"小程序直播", "Live broadcasts (mini program)"},
	54: {"服务号对话能力", "Service account conversations"},
	57: {"页面推送（小程序）", "Page indexing (mini program)"},
}

// scopeName is a permission set as people know it.
func scopeName(id int, l language) string {
	if name, ok := scopeNames[id]; ok {
		return name.in(l)
	}
	return text{"权限集 ", "Permission set "}.in(l) + strconv.Itoa(id)
}
