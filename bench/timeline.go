package main

import "time"

// timeline tells when callers waited. The zero value is empty.
type timeline struct {
	moments []moment
	slow    int64
}

// add takes a call that should have begun at a time after measuring did.
func (t *timeline) add(spec *loadSpec, at, took time.Duration, err error) {
	slow := spec.Slow > 0 && took > spec.Slow
	if slow {
		t.slow++
	}
	if spec.Bucket == 0 || at < 0 {
		return
	}
	i := int(at / spec.Bucket)
	for len(t.moments) <= i {
		t.moments = append(t.moments, moment{})
	}
	m := &t.moments[i]
	m.Worst = max(m.Worst, took)
	if slow {
		m.Slow++
	}
	if err != nil {
		m.Failed++
	}
}

// into adds the moments to those of others.
func (t *timeline) into(sum []moment) []moment {
	for i, m := range t.moments {
		if i == len(sum) {
			sum = append(sum, moment{})
		}
		sum[i].Worst = max(sum[i].Worst, m.Worst)
		sum[i].Slow += m.Slow
		sum[i].Failed += m.Failed
	}
	return sum
}
