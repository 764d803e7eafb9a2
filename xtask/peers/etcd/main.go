// The etcd server at the version in go.mod: the reference that the differential tests compare with.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
