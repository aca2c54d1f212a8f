package authorize

import (
	"strconv"
	"strings"
)

// language is one that the pages are written in.
type language uint8

const (
	english language = iota
	chinese
)

// html is the value of the lang attribute.
func (l language) html() string {
	if l == chinese {
		return "zh-CN"
	}
	return "en"
}

// duration writes a number of seconds for people.
func (l language) duration(seconds int) string {
	n, unit := seconds, text{"秒", "second"}
	switch {
	case seconds >= 2*3600:
		n, unit = (seconds+3599)/3600, text{"小时", "hour"}
	case seconds >= 100:
		n, unit = (seconds+59)/60, text{"分钟", "minute"}
	}
	if l == chinese {
		return strconv.Itoa(n) + " " + unit.zh
	}
	if n != 1 {
		unit.en += "s"
	}
	return strconv.Itoa(n) + " " + unit.en
}

// languageOf reads an Accept-Language: the better liked of Chinese, of whatever
// kind, and English; of equals the first, and English if neither is named.
func languageOf(accept string) language {
	best, liked := english, 0.0
	for i, part := range strings.Split(accept, ",") {
		if i == 32 {
			break
		}
		tag, params, _ := strings.Cut(part, ";")
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if primary != "zh" && primary != "en" {
			continue
		}
		q := 1.0
		if name, value, ok := strings.Cut(params, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || n > 1 {
				continue
			}
			q = n
		}
		if q > liked {
			best, liked = english, q
			if primary == "zh" {
				best = chinese
			}
		}
	}
	return best
}

// text is a text in both languages.
type text struct{ zh, en string }

func (t text) in(l language) string {
	if l == chinese {
		return t.zh
	}
	return t.en
}
