import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Callable;

/** Java's HttpClient with lingpai as its proxy: the app's address of WeChat stays, but for http. */
class HttpClientProxy {
    static final URI LINGPAI = URI.create(System.getenv("LINGPAI"));
    static final String APP_ID = System.getenv("AUTHORIZER_APPID");
    // HTTP/2 stays at its default: over http the client offers an upgrade (h2c).
    static final HttpClient CLIENT = HttpClient.newBuilder()
            .proxy(ProxySelector.of(new InetSocketAddress(LINGPAI.getHost(), LINGPAI.getPort()))).build();
    static boolean failed;

    static HttpRequest.Builder wechat(String path) {
        return HttpRequest.newBuilder(URI.create("http://api.weixin.qq.com" + path));
    }

    static void step(String name, Callable<String> action) {
        String detail;
        boolean ok = true;
        try {
            detail = action.call();
        } catch (Exception | AssertionError e) {
            detail = e.toString();
            ok = false;
            failed = true;
        }
        System.out.printf("{\"step\":\"%s\",\"ok\":%b,\"detail\":\"%s\"}%n", name, ok, detail.replaceAll("[\"\\\\\\p{Cntrl}]", ""));
    }

    static void expect(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    public static void main(String[] args) {
        step("component_call", () -> {
            HttpRequest request = wechat("/cgi-bin/component/api_get_authorizer_list")
                    .POST(HttpRequest.BodyPublishers.ofString("{\"offset\":0,\"count\":10}")).build();
            String body = CLIENT.send(request, BodyHandlers.ofString()).body();
            expect(body.contains("\"total_count\":1"), body);
            return "ok";
        });
        step("authorizer_call", () -> {
            HttpRequest request = wechat("/cgi-bin/menu/get").header("X-Wechat-Appid", APP_ID).build();
            String body = CLIENT.send(request, BodyHandlers.ofString()).body();
            expect(body.contains("\"errcode\":0"), body);
            return "ok";
        });
        step("download", () -> {
            HttpRequest request = wechat("/cgi-bin/media/get?media_id=" + System.getenv("MEDIA_ID")).header("X-Wechat-Appid", APP_ID).build();
            byte[] data = CLIENT.send(request, BodyHandlers.ofByteArray()).body();
            String sum = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
            expect(sum.equals(System.getenv("MEDIA_SHA256")), sum);
            return data.length + " bytes";
        });
        step("own_error", () -> {
            HttpRequest request = wechat("/cgi-bin/menu/get").header("X-Wechat-Appid", "wxffffffffffffffff").build();
            HttpResponse<String> answer = CLIENT.send(request, BodyHandlers.ofString());
            expect(answer.headers().firstValue("Proxy-Status").orElse("").startsWith("lingpai; error="), "no Proxy-Status");
            expect(answer.body().contains("\"errcode\":990404"), answer.body());
            return answer.statusCode() + " 990404";
        });
        System.exit(failed ? 1 : 0);
    }
}
