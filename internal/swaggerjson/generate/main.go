// Command generate writes the JSON form of an OpenAPI document: generate FROM.yaml TO.json. It is not part of the walpost
// binary; `go generate ./docs/api` runs it. The file is written only when the whole document could be converted.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/walpost/walpost/internal/swaggerjson"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "swaggerjson:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: generate FROM.yaml TO.json")
	}
	src, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	out, err := swaggerjson.Convert(src)
	if err != nil {
		return fmt.Errorf("convert %s: %w", args[0], err)
	}
	if err := os.WriteFile(args[1], out, 0o644); err != nil {
		return fmt.Errorf("write the json form: %w", err)
	}
	return nil
}
