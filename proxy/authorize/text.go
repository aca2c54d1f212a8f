package authorize

// texts are what a page says. {wait} is how long to wait, {accounts} which
// accounts may authorize.
type texts struct {
	mood  string
	title text
	lines []text
}

// accountNames say which accounts each type admits.
var accountNames = map[int]text{
	1: {"公众号", "Official Account"},
	2: {"小程序", "Mini Program"},
	3: {"公众号或小程序", "Official Account or Mini Program"},
	4: {"小程序推客账号", "Mini Program promoter account"},
	5: {"视频号", "Channels account"},
	6: {"微信账号（公众号、小程序、视频号等）", "WeChat account (Official Account, Mini Program, Channels and others)"},
	8: {"带货助手账号", "sales assistant account"},
}

// Words of buttons and links.
var (
	wordToWeChat     = text{"前往微信授权", "Continue to WeChat"}
	wordLasts        = text{"按钮在 {lasts}内有效，只能使用一次。", "The button works once, within {lasts}."}
	wordNext         = text{"继续", "Continue"}
	wordOnThisPhone  = text{"正在手机微信中浏览？在本机授权", "Reading this in WeChat on a phone? Authorize on the phone"}
	wordOnAnother    = text{"改用二维码，由另一台手机扫码", "Show a QR code for another phone instead"}
	wordConfirmHere  = text{"点击按钮进入微信的授权页面，由账号管理员选择账号并确认。", "The button opens WeChat's own page, where the account's administrator chooses the account and confirms."}
	wordBeginAgain   = text{"重新授权", "Start again"}
	wordTryAgain     = text{"再试一次", "Try again"}
	wordOtherAccount = text{"换一个账号授权", "Authorize the other account"}
	wordGoOn         = text{"就用这个账号继续", "Go on with this account"}
	wordBack         = text{"返回原网站", "Back to the website"}
)

// Words of the rest of a page.
var (
	wordAccount       = text{"已授权的账号", "Authorized account"}
	wordName          = text{"名称", "Name"}
	wordPermissions   = text{"授予的权限", "Permissions granted"}
	wordNoPermissions = text{"微信没有列出任何权限。", "WeChat lists no permissions."}
	wordOnlyAccount   = text{"只有以下账号可以通过此链接授权：", "Only this account can be authorized by this link:"}
	wordWantedAccount = text{"本应授权的账号：", "The account asked for:"}
	wordFresh         = text{"获取新的按钮", "Get a new button"}
	wordOver          = text{"按钮已过期。", "The button has expired."}
	wordInWeChat      = text{"请在微信中打开本页：在其他浏览器中，微信的授权页面可能无法使用。", "Please open this page inside WeChat: in other browsers WeChat's page may not work."}
	wordSafe          = text{"授权在微信的页面上完成，我们不会得到您的密码。您可以随时在微信公众平台取消授权。", "You authorize on WeChat's own pages; your password is never shared with us. You can withdraw the authorization at any time on the WeChat Official Accounts Platform."}
)

// pages are what the pages say. They are read by people who look after an
// account, not by engineers.
var pages = map[page]texts{
	pageOffer: {"plain", text{"授权您的微信账号", "Connect your WeChat account"}, []text{
		{"授权后，服务商可以按您同意的范围管理您的{accounts}。", "Once authorized, your service provider can work with your {accounts} within the limits you agree to."},
		{"点击按钮进入微信的授权页面，由账号管理员用微信扫码并确认。", "The button opens WeChat's own page, where the account's administrator scans a QR code with WeChat and confirms."},
	}},
	pageAskFirst: {"plain", text{"授权您的微信账号", "Connect your WeChat account"}, []text{
		{"授权后，服务商可以按您同意的范围管理您的{accounts}。", "Once authorized, your service provider can work with your {accounts} within the limits you agree to."},
		{"点击“继续”进行下一步。", "Press Continue for the next step."},
	}},
	pageDone: {"good", text{"授权成功", "Your account is connected"}, []text{
		{"服务商现在可以管理以下账号。您可以关闭本页。", "Your service provider can now work with this account. You can close this page."},
	}},
	pageOther: {"wait", text{"授权的是另一个账号", "Another account was authorized"}, []text{
		{"授权已生效，但不是所要求的账号。如果选错了，请换所要求的账号再授权一次；不需要的授权可以在微信公众平台取消。", "The authorization is in effect, but not for the account that was asked for. If this was a mistake, authorize the other account; one you do not want can be withdrawn on the WeChat Official Accounts Platform."},
	}},
	pageCancelled: {"plain", text{"授权没有完成", "Nothing was authorized"}, []text{
		{"您在微信中没有确认授权，没有任何改变。需要时可以重新开始。", "You did not confirm in WeChat, so nothing has changed. You can start again whenever you like."},
	}},
	pageExpired: {"wait", text{"本次授权已超时", "This visit took too long"}, []text{
		{"出于安全考虑，授权需要在两小时内完成。请重新开始；如果微信已显示授权成功，则无需再操作。", "For your safety an authorization has to be finished within two hours. Please start again, unless WeChat has already told you that it succeeded."},
	}},
	pageForged: {"bad", text{"无法确认授权", "The authorization cannot be confirmed"}, []text{
		{"这个地址不完整、已被改动，或者不是由微信打开的。没有任何改变。请重新开始授权。", "This address is incomplete, was changed, or was not opened by WeChat. Nothing has changed. Please start again."},
	}},
	pageSpent: {"wait", text{"授权凭证已使用或已过期", "This confirmation was used already or has expired"}, []text{
		{"如果您的账号在服务商处已经可以使用，则无需再操作。否则请重新授权一次。", "If your account already works with your service provider, there is nothing left to do. Otherwise please authorize it once more."},
	}},
	pageEnded: {"wait", text{"授权已被取消", "The authorization has been withdrawn"}, []text{
		{"这个账号的授权在此之后已被取消。如需继续使用，请重新授权。", "The account's authorization has been withdrawn since. To go on using the service, please authorize it again."},
	}},
	pageBadLink: {"bad", text{"链接有误", "This link is not right"}, []text{
		{"请向服务商索取正确的授权链接。", "Please ask your service provider for a correct authorization link."},
	}},
	pageBadReturn: {"bad", text{"链接有误", "This link is not right"}, []text{
		{"链接中要返回的网页未被允许，因此不会打开。请向服务商索取正确的授权链接。", "It asks to go on to a web page that is not permitted, so it was not opened. Please ask your service provider for a correct authorization link."},
	}},
	pageEmbedded: {"plain", text{"请单独打开本页", "Please open this page by itself"}, []text{
		{"出于安全考虑，本页不能嵌入其他网页，也不能预先加载。请在浏览器中直接打开。", "For your safety this page works neither inside another page nor loaded in advance. Please open it directly in your browser."},
	}},
	pageTooMany: {"wait", text{"访问过于频繁", "Too many visits"}, []text{
		{"请在 {wait}后再试。", "Please try again in {wait}."},
	}},
	pageNotReady: {"wait", text{"服务正在准备中", "The service is getting ready"}, []text{
		{"服务商的平台正在等待微信的消息，通常在十分钟之内完成。请稍后再试。", "Your service provider's platform is waiting for a message from WeChat, which usually comes within ten minutes. Please try again a little later."},
	}},
	pageStoreDown: {"wait", text{"服务暂时不可用", "The service has a problem"}, []text{
		{"服务商的系统暂时无法保存授权。您不会丢失任何内容，请在 {wait}后再试。", "Your service provider's system cannot save authorizations at the moment. Nothing is lost; please try again in {wait}."},
	}},
	pageBusy: {"wait", text{"服务暂时繁忙", "The service is busy"}, []text{
		{"请在 {wait}后再试。", "Please try again in {wait}."},
	}},
	pageQuota: {"wait", text{"今日授权次数已达上限", "Today's limit has been reached"}, []text{
		{"微信今天不再接受更多授权，午夜（北京时间）后恢复。请到时再试，或联系服务商。", "WeChat takes no more authorizations for this service today; that ends at midnight, Beijing time. Please try again then, or ask your service provider."},
	}},
	pageUnreachable: {"wait", text{"暂时无法连接微信", "WeChat cannot be reached"}, []text{
		{"微信没有回应，请在 {wait}后再试。如果微信已显示授权成功，账号可能会自动连接。", "WeChat did not answer. Please try again in {wait}. If WeChat told you that it succeeded, the account may connect by itself."},
	}},
	pageSlow: {"wait", text{"还需要一点时间", "This takes a little longer"}, []text{
		{"您的请求仍在处理中，请在 {wait}后再试。", "Your request is still being worked on. Please try again in {wait}."},
	}},
	pageUnconfigured: {"bad", text{"授权页面尚未启用", "Authorization is not set up"}, []text{
		{"请联系服务商。", "Please contact your service provider."},
		{"供服务商参考：请检查 component 与 callback.public_url 的设置、微信后台的 AppSecret 与 IP 白名单，并在负责刷新令牌的实例上打开本页。", "For the service provider: check component and callback.public_url in the configuration, the AppSecret and the IP whitelist in WeChat's console, and that this is an instance that refreshes tokens."},
	}},
}
