package redis

import (
	"testing"

	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		srv, prefix := commonServer(t)
		again := func() store.Store { return openStore(t, srv.url(), prefix) }
		return again(), again
	})
}
