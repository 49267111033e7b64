package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

const noDuration = time.Duration(0)

func (o Option) register(fs *pflag.FlagSet, value any) {
	switch v := value.(type) {
	case string:
		fs.String(o.Name, v, o.Usage)
	case bool:
		fs.Bool(o.Name, v, o.Usage)
	case int:
		fs.Int(o.Name, v, o.Usage)
	case float64:
		fs.Float64(o.Name, v, o.Usage)
	case time.Duration:
		fs.Duration(o.Name, v, o.Usage)
	case []string:
		fs.StringSlice(o.Name, v, o.Usage)
	default:
		panic(fmt.Sprintf("config: option %s has a default of type %T", o.Name, value))
	}
}

// parse turns what a layer holds (text from the environment, YAML's types from the file, the flag's type) into a valid value of the option's type.
func (o Option) parse(raw any) (any, error) {
	value, err := o.convert(raw)
	if err != nil {
		return nil, err
	}
	if o.check != nil {
		if err := o.check(value); err != nil {
			return nil, err
		}
	}
	return value, nil
}

func (o Option) convert(raw any) (any, error) {
	if list, ok := raw.([]any); ok {
		return o.convertList(list)
	}
	if list, ok := raw.([]string); ok {
		return list, nil // from a flag
	}
	switch raw.(type) {
	case string, bool, int, int64, uint64, float64, time.Duration:
	default:
		return nil, fmt.Errorf("want %s", o.kind())
	}
	text := fmt.Sprint(raw)
	var value any
	var err error
	switch o.Default.(type) {
	case string:
		return text, nil
	case []string:
		return splitList(text), nil
	case bool:
		value, err = strconv.ParseBool(text)
	case int:
		value, err = strconv.Atoi(text)
	case float64:
		value, err = strconv.ParseFloat(text, 64)
	case time.Duration:
		value, err = time.ParseDuration(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not %s", text, o.kind())
	}
	return value, nil
}

func (o Option) convertList(list []any) (any, error) {
	if _, ok := o.Default.([]string); !ok {
		return nil, fmt.Errorf("want %s, not a list", o.kind())
	}
	values := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("want %s", o.kind())
		}
		values = append(values, text)
	}
	return values, nil
}

func splitList(text string) []string {
	values := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			values = append(values, item)
		}
	}
	return values
}

// kind names the option's type for a person.
func (o Option) kind() string {
	switch o.Default.(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case float64:
		return "a number"
	case time.Duration:
		return "a duration like 30s or 1h"
	case []string:
		return "a list of words"
	default:
		return "text"
	}
}
