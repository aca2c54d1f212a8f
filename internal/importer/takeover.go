package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"lingpai/tokens/store"
)

// writers is how many records are written at a time: in bolt they share an
// fsync.
const writers = 256

// takeOver reads, verifies and, with -write, writes.
func (c *command) takeOver(ctx context.Context) error {
	now := c.now()
	p, err := c.source.platform(ctx)
	if err != nil {
		return err
	}
	p.check()
	if c.verifier != nil {
		if err := c.findToken(ctx, p, now); err != nil {
			return err
		}
	}
	bar := newProgress(c.stderr)
	defer bar.end()
	if c.usesList() || c.verify == "list" {
		if err := c.readList(ctx, bar); err != nil {
			return err
		}
	}
	// How to verify depends on how many there are: the first rows are kept until
	// that is known.
	var held []row
	decided := c.verifier == nil || c.verify == "info" || c.verifier.list != nil
	seen := map[string]struct{}{}
	each := func(rows []row) error {
		if !decided {
			if held = append(held, rows...); len(held) <= infoUpTo {
				return nil
			}
			if err := c.readList(ctx, bar); err != nil {
				return err
			}
			decided = true
			rows, held = held, nil
		}
		return c.batch(ctx, rows, seen, bar)
	}
	if err := c.source.authorizers(ctx, each); err != nil {
		return err
	}
	if err := c.batch(ctx, held, seen, bar); err != nil {
		return err
	}
	if c.verifier != nil && c.verifier.list != nil {
		for appID := range c.verifier.list {
			if _, ok := seen[appID]; !ok {
				c.report.NotInSource++
			}
		}
	}
	if err := c.component(ctx, p, now); err != nil {
		return err
	}
	if c.report.Summary[outcomeMalformed] > 0 || p.ticketFault == faultBinary {
		c.report.Hint = c.source.hint(ctx)
	}
	if c.report.total() == 0 && c.kind.name != "wechat" && p.ticket.Empty() && p.token.Empty() {
		if hint := c.source.hint(ctx); hint != "" {
			return fmt.Errorf("%w: %s", errNothing, hint)
		}
		return errNothing
	}
	return nil
}

// errNothing is not success: a wrong prefix or database looks like this.
var errNothing = errors.New("nothing to take over was found")

func (c *command) readList(ctx context.Context, bar *progress) error {
	err := c.verifier.readList(ctx, func(done, of int) { bar.show("WeChat's list", done, of) })
	c.report.Listed = c.verifier.listedAs
	return err
}

// findToken finds a component token to verify with: the old system's, the
// store's, or, only if that was asked for, a new one.
func (c *command) findToken(ctx context.Context, p platform, now time.Time) error {
	stored, err := c.store.Component(ctx, c.conf.Component.AppID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	imported := p.token
	if p.tokenExpiresAt.IsZero() || lifetimeFault(p.tokenExpiresAt, now) == "" {
		// One of unknown age is good enough to ask with, if WeChat accepts it.
		err = c.verifier.choose(ctx, imported)
	} else {
		err = errNoToken
	}
	if errors.Is(err, errNoToken) && stored.Token.ExpiresAt.After(now) {
		err = c.verifier.choose(ctx, stored.Token.Value)
	}
	if !errors.Is(err, errNoToken) {
		return err
	}
	if !c.newToken {
		return fmt.Errorf("%w, neither the old system's nor the store's, so accounts cannot be verified. "+
			"Either run this again when the old system has one; or let -write -new-component-token get one, "+
			"which ends the one that the old system may get meanwhile; or do without, with -verify none", errNoToken)
	}
	ticket, at := stored.Ticket, stored.TicketReceivedAt
	if importedAt := ticketTime(p, now); !p.ticket.Empty() && (ticket.Empty() || at.Before(importedAt)) {
		ticket, at = p.ticket, importedAt
	}
	if err := c.verifier.newComponentToken(ctx, c.store, ticket, at, now); err != nil {
		return err
	}
	c.report.NewComponentToken = true
	return nil
}

// ticketTime is when the ticket came, or a cautious guess.
func ticketTime(p platform, now time.Time) time.Time {
	if p.ticketAt.IsZero() {
		return now.Add(-unknownTicketAge)
	}
	return p.ticketAt
}

// batch checks, verifies and writes some rows.
func (c *command) batch(ctx context.Context, rows []row, seen map[string]struct{}, bar *progress) error {
	now := c.now()
	var all, ask []*candidate
	for _, r := range rows {
		checked := check(r, now)
		if checked.outcome == "" {
			if _, again := seen[checked.appID]; again {
				continue // SCAN may give a key twice
			}
			seen[checked.appID] = struct{}{}
			ask = append(ask, checked)
		}
		all = append(all, checked)
	}
	if c.verifier != nil {
		if err := c.verifier.verify(ctx, ask); err != nil {
			return err
		}
	}
	workers, workCtx := errgroup.WithContext(ctx)
	workers.SetLimit(writers)
	for _, checked := range ask {
		checked.settle()
		if checked.outcome == "" {
			workers.Go(func() error { return c.put(workCtx, checked) })
		}
	}
	err := workers.Wait()
	for _, checked := range all {
		if checked.outcome != "" { // what was not reached is not reported
			c.report.add(checked)
		}
	}
	bar.show("accounts", c.report.total(), c.verifiedTotal())
	return err
}

// verifiedTotal is about how many accounts there are, 0 if that is not known.
func (c *command) verifiedTotal() int {
	if c.verifier == nil {
		return 0
	}
	return c.verifier.total
}

// put writes one authorizer, or finds out what would be written.
func (c *command) put(ctx context.Context, checked *candidate) error {
	now := c.now()
	next := func(generation uint64) uint64 { return following(c.store, generation, now) }
	var v verdict
	merge := func(a *store.Authorizer) error {
		if v = decide(a, checked, c.overwrite, now, next); v.outcome == outcomeKept {
			return store.ErrUnchanged
		}
		return nil
	}
	// Most of a second run changes nothing: no write is begun for that.
	a, err := c.store.Authorizer(ctx, checked.appID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	a.AppID = checked.appID
	if err := merge(&a); err == nil && c.write {
		if _, err = c.store.UpdateAuthorizer(ctx, checked.appID, merge); err != nil && !errors.Is(err, store.ErrUnchanged) {
			return err
		}
	}
	checked.outcome = v.outcome
	if v.detail != "" {
		checked.note(v.detail)
	}
	switch {
	case v.access:
		checked.access = remaining(checked.accessExpiresAt, now) + " left"
	case checked.access == "" && !checked.accessToken.Empty():
		checked.access = "the store's stays"
	}
	return nil
}

// component writes the ticket and the token of the component.
func (c *command) component(ctx context.Context, p platform, now time.Time) error {
	appID := c.conf.Component.AppID
	next := func(generation uint64) uint64 { return following(c.store, generation, now) }
	accepted := c.verifier != nil && !p.token.Empty() && c.verifier.token.Equal(p.token)
	refused := c.verifier != nil && c.verifier.refused[p.token.Reveal()]
	var v componentVerdict
	merge := func(rec *store.Component) error {
		if v = decideComponent(rec, p, accepted, refused, c.overwrite, now, next); !v.changed {
			return store.ErrUnchanged
		}
		return nil
	}
	rec, err := c.store.Component(ctx, appID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	rec.AppID = appID
	if err := merge(&rec); err == nil && c.write {
		if _, err = c.store.UpdateComponent(ctx, appID, merge); err != nil && !errors.Is(err, store.ErrUnchanged) {
			return err
		}
	}
	c.report.Component = componentReport{AppID: appID, Ticket: v.ticket, Token: v.token}
	return nil
}
