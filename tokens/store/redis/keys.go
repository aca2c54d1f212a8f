package redis

import (
	"errors"
	"strings"

	"lingpai/tokens/store"
)

// keys are the names of the layout; the package comment says what is in them.
type keys struct {
	prefix string

	schema, encryption, identity             string
	alive, changes                           string
	counts                                   string
	pushes, pushOrder, pushDigests, lastPush string

	deliveries, deliveryIDs, deliveryPending, deliveryDead string
	deliveryCounts, deliveryTargets, lastDelivery          string
}

var errBraces = errors.New("braces in it must enclose a hash tag, as in {lingpai}")

func newKeys(prefix string) (keys, error) {
	p, err := tagged(prefix)
	if err != nil {
		return keys{}, err
	}
	return keys{
		prefix:      p,
		schema:      p + "schema",
		encryption:  p + "encryption_keys",
		identity:    p + "identity",
		alive:       p + "alive",
		changes:     p + "changes",
		counts:      p + "counts",
		pushes:      p + "pushes",
		pushOrder:   p + "push_order",
		pushDigests: p + "push_digests",
		lastPush:    p + "push_seq",

		deliveries:      p + "deliveries",
		deliveryIDs:     p + "delivery_ids",
		deliveryPending: p + "delivery_pending",
		deliveryDead:    p + "delivery_dead",
		deliveryCounts:  p + "delivery_counts",
		deliveryTargets: p + "delivery_targets",
		lastDelivery:    p + "delivery_seq",
	}, nil
}

func (k keys) record(kind store.ChangeKind, appID string) string {
	return k.prefix + string(kind) + ":" + appID
}

// index names the app ids of all records of kind.
func (k keys) index(kind store.ChangeKind) string { return k.prefix + string(kind) + "s" }

func (k keys) note(name string) string { return k.prefix + "note:" + name }

func (k keys) lease(name string) string { return k.prefix + "lease:" + name }

// tagged adds the hash tag. It stands behind the prefix, so that keys begin as
// an operator expects who grants rights on lingpai:*.
func tagged(prefix string) (string, error) {
	if open := strings.IndexByte(prefix, '{'); open >= 0 {
		if strings.IndexByte(prefix[open+1:], '}') < 1 {
			return "", errBraces
		}
		return prefix, nil
	}
	if strings.Contains(prefix, "}") {
		return "", errBraces
	}
	tag := strings.Trim(prefix, ":")
	if tag == "" {
		tag = "lingpai"
	}
	return prefix + "{" + tag + "}:", nil
}
