package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"lingpai/tokens/store"
)

// pageSize is how many records are read in one go: about half a MiB.
const pageSize = 500

// Authorizer implements store.Store.
func (s *Store) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	return get(ctx, s, &authorizers, appID)
}

// UpdateAuthorizer implements store.Store.
func (s *Store) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	return update(ctx, s, &authorizers, appID, fn)
}

// counted gives the field of state in the counters, or "".
func counted(state store.State) string {
	var c store.Counts
	if c.Add(state, 1); c == (store.Counts{}) {
		return ""
	}
	return string(state)
}

// DeleteAuthorizer implements store.Store. A record that cannot be read is not
// deleted, since the counters could not follow.
func (s *Store) DeleteAuthorizer(ctx context.Context, appID string) error {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fmt.Errorf("redis: delete authorizer %q: %w", appID, err)
	}
	defer done()
	if err := s.deleteAuthorizer(ctx, appID); err != nil {
		return fmt.Errorf("redis: delete authorizer %q: %w", appID, err)
	}
	return nil
}

func (s *Store) deleteAuthorizer(ctx context.Context, appID string) error {
	key := s.keys.record(authorizers.kind, appID)
	pass, err := s.turn(ctx, key)
	if err != nil {
		return err
	}
	defer pass()
	data, found, err := s.bytes(ctx, key)
	if err != nil {
		return err
	}
	for attempt := range maxAttempts {
		if !found {
			return store.ErrNotFound
		}
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		}
		old, err := authorizers.read(s.codec, appID, data)
		if err != nil {
			return err
		}
		out, err := s.runNotice(ctx, deleteAuthorizerScript, s.notice(authorizers.kind, appID),
			[]string{key, s.keys.index(authorizers.kind), s.keys.counts}, data, appID, counted(old.State))
		if err != nil || out.done {
			return err
		}
		if data, found, err = out.text(0); err != nil {
			return err
		}
	}
	return errContended
}

// Authorizers implements store.Store. A page is read in parts; an authorizer
// that comes or goes meanwhile may be in it or not.
func (s *Store) Authorizers(ctx context.Context, after string, limit int) ([]store.Authorizer, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis: authorizers: %w", err)
	}
	defer done()
	var page []store.Authorizer
	for len(page) < limit {
		count := min(limit-len(page), pageSize)
		ids, err := s.appIDs(ctx, authorizers.kind, after, count)
		if err == nil && len(ids) > 0 {
			after = ids[len(ids)-1]
			page, err = s.appendAuthorizers(ctx, page, ids)
		}
		if err != nil {
			return nil, fmt.Errorf("redis: authorizers: %w", err)
		}
		if len(ids) < count {
			break
		}
	}
	return page, nil
}

// appIDs reads up to count app ids of records of kind behind after.
func (s *Store) appIDs(ctx context.Context, kind store.ChangeKind, after string, count int) ([]string, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	m, err := s.do(ctx, s.client.B().Zrangebylex().Key(s.keys.index(kind)).Min(from).Max("+").Limit(0, int64(count)).Build())
	if err != nil {
		return nil, err
	}
	ids, err := m.AsStrSlice()
	if err != nil {
		return nil, errAnswer
	}
	return ids, nil
}

// appendAuthorizers leaves out those that were deleted since ids were read.
func (s *Store) appendAuthorizers(ctx context.Context, page []store.Authorizer, ids []string) ([]store.Authorizer, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.keys.record(authorizers.kind, id)
	}
	return appendRecords(ctx, s, page, ids, s.client.B().Mget().Key(keys...).Build(), func(id, data string) (store.Authorizer, error) {
		a, err := authorizers.read(s.codec, id, data)
		if err != nil {
			return a, fmt.Errorf("%q: %w", id, err)
		}
		return a, nil
	})
}

// CountAuthorizers implements store.Store.
func (s *Store) CountAuthorizers(ctx context.Context) (store.Counts, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return store.Counts{}, fmt.Errorf("redis: count authorizers: %w", err)
	}
	defer done()
	states := []store.State{store.StateActive, store.StateReauthorize, store.StateUnauthorized}
	fields := make([]string, len(states))
	for i, state := range states {
		fields[i] = string(state)
	}
	var values []string
	m, err := s.do(ctx, s.client.B().Hmget().Key(s.keys.counts).Field(fields...).Build())
	if err == nil {
		values, err = m.AsStrSlice() // nil is ""
	}
	if err == nil && len(values) != len(states) {
		err = errAnswer
	}
	var counts store.Counts
	for i, value := range values {
		n := 0
		if value != "" {
			var parseErr error
			n, parseErr = strconv.Atoi(value)
			err = errors.Join(err, parseErr)
		}
		counts.Add(states[i], n)
	}
	if err != nil {
		return store.Counts{}, fmt.Errorf("redis: count authorizers: %w", err)
	}
	return counts, nil
}
