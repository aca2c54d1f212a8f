package tokens

// SetCacheBytes changes how many bytes of tokens memory may hold.
func (s *Service) SetCacheBytes(n int64) { s.memory.cache.UpdateMaxCost(n) }
