package config

import (
	"reflect"
	"slices"
)

// Diff returns the keys under listen and store in which c and other differ, in
// the order of config.yaml: a reload cannot take them over.
func (c Config) Diff(other Config) []string {
	return slices.Concat(
		diffKeys("listen", reflect.ValueOf(c.Listen), reflect.ValueOf(other.Listen)),
		diffKeys("store", reflect.ValueOf(c.Store), reflect.ValueOf(other.Store)),
	)
}

// diffKeys compares two structs of one type, field by field. A list without
// entries is the same whether it was written or not.
func diffKeys(key string, a, b reflect.Value) []string {
	var differ []string
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			differ = append(differ, join(key, keyOf(a.Type().Field(i))))
		}
	}
	return differ
}
