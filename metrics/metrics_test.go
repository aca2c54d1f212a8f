package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestNamesOfTheContract(t *testing.T) {
	m := New("v", "c", "go")
	m.AuthorizerCounts(func() map[string]int { return map[string]int{"active": 2, "reauthorize": 0, "unauthorized": 1} })
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body := rec.Body.String()
	for _, series := range []string{
		`lingpai_requests_total{method="GET",status="200",token="component"} 0`,
		`lingpai_request_duration_seconds_count{token="authorizer"} 0`,
		`lingpai_upstream_duration_seconds_count 0`,
		`lingpai_upstream_errcodes_total{errcode="40001"} 0`,
		`lingpai_upstream_errcodes_total{errcode="other"} 0`,
		`lingpai_token_lookups_total{kind="account",source="memory"} 0`,
		`lingpai_token_refreshes_total{kind="authorizer",reason="event",result="ok"} 0`,
		`lingpai_token_refresh_duration_seconds_count{kind="component"} 0`,
		`lingpai_token_flight_waiters_total{kind="ticket"} 0`,
		`lingpai_replays_total{result="ok"} 0`,
		`lingpai_foreign_refreshes_total{kind="component"} 0`,
		`lingpai_component_token_expiry_timestamp_seconds 0`,
		`lingpai_verify_ticket_timestamp_seconds 0`,
		`lingpai_authorizers{state="active"} 2`,
		`lingpai_pushes_total{info_type="component_verify_ticket",result="ok"} 0`,
		`lingpai_response_cache_total{result="hit"} 0`,
		`lingpai_store_up 0`,
		`lingpai_store_operations_total{op="update_authorizer",result="error"} 0`,
		`lingpai_store_operation_duration_seconds_count{op="component"} 0`,
		`lingpai_lease_total{result="won"} 0`,
		`lingpai_in_flight_requests 0`,
		`lingpai_build_info{commit="c",go_version="go",version="v"} 1`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, series) {
			t.Errorf("no %s", series)
		}
	}
}

func TestLabelsStayInTheirSets(t *testing.T) {
	m := New("v", "c", "go")
	m.Push("notify_of_a_new_kind", "ok")
	m.Errcode(123456789)
	m.Errcode(0)
	m.Request(TokenAuthorizer, []byte("PROPFIND"), 207, time.Millisecond)
	m.Request(TokenAuthorizer, []byte("GET"), 70000, time.Millisecond)
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"lingpai_pushes_total", map[string]string{"info_type": "other", "result": "ok"}, 1},
		{"lingpai_upstream_errcodes_total", map[string]string{"errcode": "other"}, 1},
		{"lingpai_upstream_errcodes_total", map[string]string{}, 1},
		{"lingpai_requests_total", map[string]string{"token": "authorizer", "method": "other", "status": "207"}, 1},
		{"lingpai_requests_total", map[string]string{"token": "authorizer", "method": "GET", "status": "599"}, 1},
	} {
		if got, ok := m.Gather(c.name, c.labels); !ok || got != c.want {
			t.Errorf("%s%v = %v, %v; want %v", c.name, c.labels, got, ok, c.want)
		}
	}
}
