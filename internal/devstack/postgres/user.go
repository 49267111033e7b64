package postgres

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the server runs as; nil: the user of this process.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount picks the account: PostgreSQL refuses to run as root, so root hands its children to another user.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root and there is no user postgres or nobody to run it: start walpost as another user")
}

// prepareDir makes the data directory for the account and proves that the account can reach it and the programs.
func (a *account) prepareDir(dataDir, programs string) error {
	if err := os.MkdirAll(filepath.Dir(dataDir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dataDir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	if a == nil {
		return nil
	}
	for _, dir := range []string{filepath.Dir(dataDir), programs} {
		if err := a.reaches(dir); err != nil {
			return err
		}
	}
	return os.Chown(dataDir, int(a.uid), int(a.gid))
}

// reaches walks up from dir and names the first folder that the account may not enter.
func (a *account) reaches(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 && !a.owns(info) {
			return fmt.Errorf("folder %s is closed to user %s, who runs PostgreSQL because root may not: choose another data directory or run `chmod o+x %s`", dir, a.name, dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

func (a *account) owns(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == a.uid
}

// credential is the account's identity for a child; nil: that of this process.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}
