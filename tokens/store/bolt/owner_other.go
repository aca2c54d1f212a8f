//go:build !unix

package bolt

import "os"

// likeOld gives the file at path the mode of the one it is to replace.
func likeOld(path string, old os.FileInfo) error { return os.Chmod(path, old.Mode().Perm()) }
