package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/walpost/walpost/migrations"
)

const template = "walpost_template"

// Migrated is the connection string of a new database with all migrations applied, on this process's shared server.
func Migrated(t testing.TB) string {
	t.Helper()
	return sharedServer(t).Migrated(t)
}

// Migrated is the connection string of a new database with all migrations applied. The migrations run once a server; the databases are copies.
func (s *Server) Migrated(t testing.TB) string {
	t.Helper()
	s.template.Do(func() {
		s.admin(t, "create database "+template)
		s.templateErr = migrate(t.Context(), s.current().URL(template))
	})
	if s.templateErr != nil {
		t.Fatalf("the template database: %v", s.templateErr)
	}
	return s.create(t, "template "+template)
}

func migrate(ctx context.Context, url string) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nobody may be connected when the template is copied
	if _, err := migrations.Up(ctx, db, migrations.Walpost, migrations.App); err != nil {
		return fmt.Errorf("migrate %s: %w", url, err)
	}
	return nil
}
