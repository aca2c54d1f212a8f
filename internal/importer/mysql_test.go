package importer

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

// fakeMySQL answers the queries of liveTables as the driver of MySQL does, with
// bytes and the names of types.
type fakeMySQL struct {
	tables  map[string]fakeTable
	queries []string
}

type fakeTable struct {
	columns, kinds []string
	rows           [][]driver.Value
}

func (f *fakeMySQL) Connect(context.Context) (driver.Conn, error) { return f, nil }
func (f *fakeMySQL) Driver() driver.Driver                        { return nil }
func (f *fakeMySQL) Prepare(string) (driver.Stmt, error)          { return nil, errors.New("no") }
func (f *fakeMySQL) Close() error                                 { return nil }
func (f *fakeMySQL) Begin() (driver.Tx, error)                    { return f, nil }
func (f *fakeMySQL) Commit() error                                { return nil }
func (f *fakeMySQL) Rollback() error                              { return nil }

func (f *fakeMySQL) BeginTx(_ context.Context, options driver.TxOptions) (driver.Tx, error) {
	if !options.ReadOnly {
		return nil, errors.New("this transaction could write")
	}
	return f, nil
}

func (f *fakeMySQL) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	f.queries = append(f.queries, query)
	_, from, _ := strings.Cut(query, " FROM ")
	table, ok := f.tables[strings.Fields(from)[0]]
	if !ok {
		return nil, errors.New("no such table")
	}
	return &fakeRows{table: table}, nil
}

type fakeRows struct {
	table fakeTable
	next  int
}

func (r *fakeRows) Columns() []string                           { return r.table.columns }
func (r *fakeRows) Close() error                                { return nil }
func (r *fakeRows) ColumnTypeDatabaseTypeName(index int) string { return r.table.kinds[index] }

func (r *fakeRows) Next(into []driver.Value) error {
	if r.next == len(r.table.rows) {
		return io.EOF
	}
	copy(into, r.table.rows[r.next])
	r.next++
	return nil
}

func TestLiveTables(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	utc := end.UTC().Format("2006-01-02 15:04:05")
	fake := &fakeMySQL{tables: map[string]fakeTable{
		"authorizers": {[]string{"appid", "refreshtoken", "authtime"}, []string{"VARCHAR", "VARCHAR", "DATETIME"}, [][]driver.Value{
			{[]byte(shop), []byte("r1"), []byte("2026-03-01 08:00:00.123")},
			{[]byte(idle), nil, nil},
		}},
		"comm": {[]string{"key", "value"}, []string{"VARCHAR", "TEXT"}, [][]driver.Value{{[]byte("ticket"), []byte("t")}}},
		"wxtoken": {[]string{"type", "appid", "token", "expiretime"}, []string{"INT", "VARCHAR", "TEXT", "TIMESTAMP"}, [][]driver.Value{
			{int64(2), []byte(platformID), []byte("component"), []byte(utc)},
			{int64(1), []byte(shop), []byte("access"), []byte(utc)},
		}},
	}}
	w := &wxcomponent{component: platformID, zone: time.FixedZone("", 8*3600), fill: liveTables(sql.OpenDB(fake))}
	p, err := w.platform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "ticket", p.ticket.Reveal(), "t")
	same(t, "token", p.token.Reveal(), "component")
	same(t, "its end", p.tokenExpiresAt.Equal(end), true)
	var rows []row
	if err := w.authorizers(t.Context(), func(batch []row) error { rows = append(rows, batch...); return nil }); err != nil {
		t.Fatal(err)
	}
	same(t, "rows", len(rows), 2)
	same(t, "authorized at", rows[0].authorizedAt.UTC(), time.Date(2026, 3, 1, 0, 0, 0, 123e6, time.UTC))
	same(t, "access token", []string{rows[0].accessToken.Reveal(), rows[1].accessToken.Reveal()}, []string{"access", ""})
	same(t, "queries", len(fake.queries), 3)
	same(t, "hint", w.hint(t.Context()), "")

	delete(fake.tables, "comm")
	w.fill = liveTables(sql.OpenDB(fake))
	if _, err := w.platform(t.Context()); err == nil || !strings.Contains(err.Error(), "table comm: no such table") {
		t.Error(err)
	}
}

// A DSN never shows in an error.
func TestDSN(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"lingpai:s3cret", "lingpai:s3cret@tcp(127.0.0.1:0)/x", "lingpai:s3cret@nowhere(x)/y?tls=missing"} {
		db, err := openMySQL(secret.New(dsn))
		if err == nil {
			err = liveTables(db)(t.Context(), func(string, int, func(string) (string, string), string) {})
		}
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
	}
}
