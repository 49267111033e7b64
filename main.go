// Command walpost carries events out of a PostgreSQL transaction to Kafka and applies them once.
//
// It is only the door to package internal/cli, which has the commands.
package main

import (
	"context"
	"os"

	"github.com/walpost/walpost/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
