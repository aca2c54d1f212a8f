package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"lingpai/tokens/secret"
)

const (
	// maxSecretFile bounds a file named by file:, in bytes.
	maxSecretFile = 64 * kib
	howToRefer    = "write env:NAME or file:/path"
)

// envName is a variable's name that may be repeated in a fault. One in other
// letters works as well, but may be the secret itself, written after env:.
var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,63}$`)

// secret decodes a reference to a secret and reads what it refers to. No fault
// repeats anything of it but the name of a variable.
func (l *loader) secret(key string, node ast.Node, into reflect.Value, options string) {
	reference, ok := plain(node)
	if !ok {
		l.fault(key, "a secret is never a literal: %s", howToRefer)
		return
	}
	flags := strings.Split(options, ",")
	if reference == "" {
		if !slices.Contains(flags, "optional") {
			l.fault(key, "is empty: %s", howToRefer)
		}
		return
	}
	var value, problem string
	if name, ok := strings.CutPrefix(reference, "env:"); ok {
		value, problem = l.variable(name)
	} else if path, ok := strings.CutPrefix(reference, "file:"); ok {
		value, problem = l.secretFile(path)
	} else if slices.Contains(flags, "url") {
		if value = reference; holdsPassword(reference) {
			problem = "is no URL, or may hold a password: write redis://host:6379 without one, else env:NAME or file:/path"
		}
	} else {
		problem = "a secret is never a literal: " + howToRefer
	}
	if problem == "" {
		value = strings.TrimRight(value, "\r\n")
		problem = secretProblem(value)
	}
	if problem != "" {
		l.fault(key, "%s", problem)
		return
	}
	into.Set(reflect.ValueOf(secret.New(value)))
}

// variable reads an environment variable.
func (l *loader) variable(name string) (value, problem string) {
	if name == "" {
		return "", "env: names no variable: write env:NAME"
	}
	shown := "the environment variable named here"
	if envName.MatchString(name) {
		shown = "the environment variable " + name
	}
	value, ok := l.env(name)
	switch {
	case !ok:
		return "", shown + " is not set: set it, or " + howToRefer
	case value == "":
		return "", shown + " is empty: set it, or " + howToRefer
	}
	return value, ""
}

// secretFile reads a file that holds one secret.
func (l *loader) secretFile(path string) (value, problem string) {
	if path == "" {
		return "", "file: names no file: write file:/path"
	}
	data, problem := readRegular(l.absolute(path), maxSecretFile)
	if problem != "" && !filepath.IsAbs(path) {
		problem += " (relative paths start at " + l.dir + ")"
	}
	return string(data), problem
}

// readRegular reads a whole file of at most limit bytes; anything but a regular
// file could make it wait for ever. The problem does not repeat the path.
func readRegular(path string, limit int64) (data []byte, problem string) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "the file named here does not exist: create it or correct the path"
	case err != nil:
		return nil, "the file named here cannot be read: " + reason(err)
	case !info.Mode().IsRegular():
		return nil, "what is named here is not a regular file: name one"
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, "the file named here cannot be read: " + reason(err)
	}
	defer file.Close()
	data, err = io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, "the file named here cannot be read: " + reason(err)
	case int64(len(data)) > limit:
		return nil, "the file named here is larger than " + formatSize(limit) + ": is it the right one?"
	}
	return data, ""
}

// reason is an error of the file system without the path.
func reason(err error) string {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err.Error()
	}
	return "input/output error"
}

// secretProblem says what no secret can be.
func secretProblem(value string) string {
	switch {
	case strings.TrimSpace(value) == "":
		return "what is referred to is empty: put the secret there"
	case strings.ContainsFunc(value, unicode.IsControl):
		return "what is referred to has more than one line or control characters: put nothing but the secret there"
	case strings.TrimSpace(value) != value:
		return "what is referred to begins or ends with a space: put nothing but the secret there"
	}
	return ""
}

// holdsPassword reports whether a Redis URL may not be written down as it is:
// anything with user information or a password parameter, or no URL at all.
func holdsPassword(url string) bool {
	return !redisURL.MatchString(url) || strings.Contains(url, "@") ||
		strings.Contains(strings.ToLower(url), "pass")
}

// redisURL are the schemes of store.redis_url.
var redisURL = regexp.MustCompile(`^(rediss?([+-](sentinel|cluster))?|unix)://.`)

// absolute resolves a path of the file.
func (l *loader) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.dir, path)
}
