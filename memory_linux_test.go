package main

import (
	"os"
	"slices"
	"testing"
)

func TestReadOnlyMappings(t *testing.T) {
	const smaps = `00400000-01195000 r-xp 00000000 fe:00 9978882                            /bin/lingpai
Rss:                7444 kB
Private_Dirty:      6204 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01195000-02075000 r--p 00d95000 fe:00 9978882                            /bin/lingpai
Rss:                8832 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
02075000-02080000 r--p 00d95000 fe:00 9978882                            /bin/lingpai
Anonymous:             4 kB
VmFlags: rd mr mw me ac
02080000-0214e000 rw-p 01c75000 fe:00 9978882                            /bin/lingpai
Anonymous:             0 kB
VmFlags: rd wr mr mw me ac
02150000-02160000 r--p 00000000 fe:00 9978883                            /var/lib/lingpai.db
Anonymous:             0 kB
VmFlags: rd mr mw me
141c94400000-141c95400000 r--p 00000000 00:00 0
Anonymous:             0 kB
VmFlags: rd mr mw me
03000000-04000000 r--p 00d95000 fe:00 9978882                            /bin/lingpai (deleted)
Anonymous:             0 kB
VmFlags: rd mr mw me
`
	want := []mapping{{0x400000, 0x1195000}, {0x1195000, 0x2075000}}
	if got := readOnly(smaps, "/bin/lingpai"); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	own, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(readOnly(string(own), program)) == 0 {
		t.Error("no mapping of this program is found")
	}
}
