//go:build unix

package bolt

import (
	"os"
	"syscall"
)

// likeOld gives the file at path mode and owner of the one it is to replace:
// rekey may be run by root, and the sidecar by another user.
func likeOld(path string, old os.FileInfo) error {
	if err := os.Chmod(path, old.Mode().Perm()); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	was, ok1 := old.Sys().(*syscall.Stat_t)
	is, ok2 := info.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return os.Chown(path, int(was.Uid), int(was.Gid))
}
