package importer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"lingpai/tokens/secret"
)

// wxcomponent is WeixinCloud/wxcloudrun-wxcomponent: the tables authorizers, comm
// and wxtoken of its MySQL, as a dump or live.
type wxcomponent struct {
	component string
	zone      *time.Location // of DATETIME columns
	fill      func(ctx context.Context, use func(table string, line int, get func(column string) (string, string), fault string)) error

	tables map[string]bool // those there are
	ticket row             // refreshToken is the ticket, accessExpiresAt when it came
	own    row             // accessToken is the component's
	rows   []row
	access map[string]row
}

var wxcomponentTables = []string{"authorizers", "comm", "wxtoken"}

// The types of tokens in wxtoken.
const (
	wxTokenAuthorizer = "1"
	wxTokenComponent  = "2"
)

func (w *wxcomponent) close() {}

func (w *wxcomponent) hint(context.Context) string {
	var missing []string
	for _, table := range wxcomponentTables {
		if !w.tables[table] {
			missing = append(missing, table)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "there are no rows of the table " + strings.Join(missing, ", ") + ": it takes authorizers, comm and wxtoken of wxcomponent's database"
}

// platform reads all tables: a dump has them in its own order.
func (w *wxcomponent) platform(ctx context.Context) (platform, error) {
	w.tables, w.access = map[string]bool{}, map[string]row{}
	if err := w.fill(ctx, w.use); err != nil {
		return platform{}, err
	}
	return platform{
		ticket: w.ticket.refreshToken, ticketAt: w.ticket.accessExpiresAt, ticketFault: w.ticket.fault,
		token: w.own.accessToken, tokenExpiresAt: w.own.accessExpiresAt, tokenFault: w.own.fault,
	}, nil
}

// use takes a row of a table. get gives the value of a column and its type.
func (w *wxcomponent) use(table string, line int, get func(string) (string, string), fault string) {
	w.tables[table] = true
	where := ""
	if line > 0 {
		where = fmt.Sprintf("line %d", line)
	}
	value := func(column string) string { text, _ := get(column); return text }
	moment := func(column string) time.Time { text, kind := get(column); return w.moment(text, kind) }
	switch table {
	case "authorizers":
		w.rows = append(w.rows, row{
			appID: value("appid"), where: where, fault: fault,
			refreshToken: secret.New(value("refreshtoken")), authorizedAt: moment("authtime"),
		})
	case "comm":
		if value("key") == "ticket" {
			w.ticket = row{refreshToken: secret.New(value("value")), accessExpiresAt: moment("updatetime"), fault: fault}
		}
	case "wxtoken":
		r := row{appID: value("appid"), accessToken: secret.New(value("token")), accessExpiresAt: moment("expiretime"), fault: fault}
		switch {
		case value("type") == wxTokenAuthorizer:
			w.access[r.appID] = r
		case value("type") == wxTokenComponent && r.appID == w.component:
			w.own = r
		}
	}
}

// moment reads a time. mysqldump and the session of -dsn give a TIMESTAMP in UTC;
// a DATETIME is in the zone of who wrote it.
func (w *wxcomponent) moment(text, kind string) time.Time {
	zone := w.zone
	if strings.HasPrefix(kind, "timestamp") {
		zone = time.UTC
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05.999999", text, zone)
	if err != nil || t.Year() < 2000 {
		return time.Time{}
	}
	return t
}

func (w *wxcomponent) authorizers(_ context.Context, each func([]row) error) error {
	out := batcher{each: each}
	for _, r := range w.rows {
		if a, ok := w.access[r.appID]; ok && r.fault == "" {
			r.accessToken, r.accessExpiresAt, r.accessFault = a.accessToken, a.accessExpiresAt, a.fault
			delete(w.access, r.appID)
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
	return out.flush()
}

// dumpTables reads the tables of a dump.
func dumpTables(open func() (io.ReadCloser, error)) func(context.Context, func(string, int, func(string) (string, string), string)) error {
	return func(ctx context.Context, use func(string, int, func(string) (string, string), string)) error {
		file, err := open()
		if err != nil {
			return err
		}
		defer file.Close()
		var dump *sqlDump
		wanted := func(table string) bool {
			for _, name := range wxcomponentTables {
				if table == name {
					return true
				}
			}
			return false
		}
		dump = newSQLDump(file, wanted, func(r sqlRow) error {
			use(r.table, r.line, func(column string) (string, string) {
				return r.values[column].text, dump.kind(r.table, column)
			}, r.fault)
			return ctx.Err()
		})
		return dump.read()
	}
}

// openMySQL connects to the database of a DSN as the Go driver takes it.
func openMySQL(dsn secret.String) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn.Reveal())
	if err != nil {
		return nil, usagef("-dsn: is no DSN: write user:password@tcp(host:3306)/database") // the error would quote it
	}
	if config.Params == nil {
		config.Params = map[string]string{}
	}
	config.Params["time_zone"] = "'+00:00'"
	config.ParseTime = false
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	if config.ReadTimeout == 0 {
		config.ReadTimeout = 30 * time.Second
	}
	config.Logger = log.New(io.Discard, "", 0)
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, usagef("-dsn: cannot be used: write user:password@tcp(host:3306)/database")
	}
	return sql.OpenDB(connector), nil
}

// liveTables reads the tables of a database, in one transaction.
func liveTables(db *sql.DB) func(context.Context, func(string, int, func(string) (string, string), string)) error {
	return func(ctx context.Context, use func(string, int, func(string) (string, string), string)) error {
		defer db.Close()
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("mysql: %w", err)
		}
		defer tx.Rollback()
		for _, query := range []struct{ table, text string }{
			{"authorizers", "SELECT appid, refreshtoken, authtime FROM authorizers"},
			{"comm", "SELECT `key`, `value` FROM comm WHERE `key` = 'ticket'"},
			{"wxtoken", "SELECT `type`, appid, token, expiretime FROM wxtoken"},
		} {
			if err := liveTable(ctx, tx, query.table, query.text, use); err != nil {
				return fmt.Errorf("mysql: table %s: %w", query.table, err)
			}
		}
		return nil
	}
}

func liveTable(ctx context.Context, tx *sql.Tx, table, query string, use func(string, int, func(string) (string, string), string)) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(types))
		into := make([]any, len(types))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return errors.New("a value has an unexpected type") // the error may quote it
		}
		use(table, 0, func(column string) (string, string) {
			for i, t := range types {
				if strings.EqualFold(t.Name(), column) {
					return values[i].String, strings.ToLower(t.DatabaseTypeName())
				}
			}
			return "", ""
		}, "")
	}
	return rows.Err()
}
