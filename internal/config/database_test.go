package config_test

import (
	"strings"
	"testing"

	"github.com/walpost/walpost/internal/config"
)

func TestPasswordsAreMasked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://ada:hunter2@db:5432/x":                            "postgres://ada:xxxxx@db:5432/x",
		"postgres://ada@db/x":                                         "postgres://ada@db/x",
		"postgres://ada:p%40ss@a:1,b:2/x?sslmode=disable":             "postgres://ada:xxxxx@a:1,b:2/x?sslmode=disable",
		"postgres://:hunter2@db/x":                                    "postgres://:xxxxx@db/x",
		"postgres://db/x?password=hunter2&sslmode=disable":            "postgres://db/x?password=xxxxx&sslmode=disable",
		"host=db password=hunter2 user=ada":                           "host=db password=xxxxx user=ada",
		"host=db password = 'hunter2 with \\' quote' user=ada":        "host=db password = xxxxx user=ada",
		"sslpassword=hunter2":                                         "sslpassword=xxxxx",
		"cannot parse `postgres://a:b@h/x` and `postgres://c:d@h/x` ": "cannot parse `postgres://a:xxxxx@h/x` and `postgres://c:xxxxx@h/x` ",
		"127.0.0.1:5433: connection refused":                          "127.0.0.1:5433: connection refused",
	} {
		if got := config.Redact(text); got != want {
			t.Errorf("Redact(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNoPasswordInValuesOrErrors(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://ada:s3cr3t@127.0.0.1/x",
		"host=127.0.0.1 password='s3cr3t' user=ada",
		"postgres://ada:s3cr3t@127.0.0.1:not-a-port/x",
		"postgres://ada:s3cr3t@127.0.0.1/x?sslmode=sometimes",
		"host=127.0.0.1 password='s3cr3t",
		"postgres://ada:s3cr3t@127.0.0.1/x%zz",
	} {
		cfg, err := config.Load(config.Sources{Environ: []string{"DATABASE_URL=" + url}})
		var shown strings.Builder
		if err != nil {
			shown.WriteString(err.Error())
		}
		for _, v := range cfg.Values() {
			shown.WriteString(v.Value)
		}
		if strings.Contains(shown.String(), "s3cr3t") {
			t.Errorf("Load with %q shows the password: %s", url, shown.String())
		}
	}
}

func TestRemoteDatabasesAreVerifiedUnlessTheUrlSaysOtherwise(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://ada@127.0.0.1/x":                  "postgres://ada@127.0.0.1/x",
		"postgres://ada@[::1]/x":                      "postgres://ada@[::1]/x",
		"postgres://ada@localhost/x":                  "postgres://ada@localhost/x",
		"postgres:///x?host=/run/postgresql":          "postgres:///x?host=/run/postgresql",
		"host=/run/postgresql dbname=x":               "host=/run/postgresql dbname=x",
		"postgres://ada@db.example/x":                 "postgres://ada@db.example/x?sslmode=verify-full",
		"postgres://ada@db.example/x?sslmode=disable": "postgres://ada@db.example/x?sslmode=disable",
		"postgres://ada@127.0.0.1,db.example/x":       "postgres://ada@127.0.0.1,db.example/x?sslmode=verify-full",
		"host=db.example dbname=x":                    "host=db.example dbname=x sslmode=verify-full",
		"host=db.example sslmode=require":             "host=db.example sslmode=require",
	} {
		cfg, err := config.Load(config.Sources{Environ: []string{"DATABASE_URL=" + url}})
		if err != nil || cfg.DatabaseURL != want {
			t.Errorf("DatabaseURL of %q = %q, %v, want %q", url, cfg.DatabaseURL, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"slot", "topic", "topics", "database-url", "relay"}
	for word, want := range map[string]string{
		"slto": "slot", "slots": "slot", "Topic": "topic", "databse-url": "database-url", "database.url": "database-url", "relya": "relay",
		"x": "", "": "", "quux": "", "to": "",
	} {
		if got := config.Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
