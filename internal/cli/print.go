package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/walpost/walpost/internal/ops"
)

// print writes a result to stdout in the form that --output asks for: value as JSON or YAML, rows as a table whose first row is the heading.
func (p *program) print(value any, rows [][]string) error {
	var err error
	switch p.cfg.Output {
	case "json":
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(value)
	case "yaml":
		err = p.printYAML(value)
	default:
		err = p.printTable(rows)
	}
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// printYAML goes through JSON, so that both have the same keys in the same order.
func (p *program) printYAML(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	blockStyle(&document)
	encoder := yaml.NewEncoder(p.stdout)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return err
	}
	return encoder.Close()
}

// blockStyle takes JSON's brackets away. Quotes stay where the text would read as something else.
func blockStyle(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		blockStyle(child)
	}
}

func (p *program) printTable(rows [][]string) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = ops.Printable(cell)
		}
		if _, err := fmt.Fprintln(table, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(p.stdout, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// confirm asks before something is destroyed. Without a terminal to ask on, only --yes is an answer.
func (p *program) confirm(deed string) error {
	if p.cfg.Yes {
		return nil
	}
	file, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return misused("%s: say --yes to do it", deed)
	}
	_, _ = fmt.Fprintf(p.stderr, "%s. Do it? [y/N] ", deed) // an unseen question is answered with no
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n')  // the end of the input is an answer
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return misused("%s: not done, the answer was no", deed)
	}
	return nil
}
