# walpost: every target says what it does in `make help`, which is also what a bare `make` prints.
.DEFAULT_GOAL := help
.PHONY: help run setup build clean test check fmt swagger-install swagger db-migrate-up topics bench performance chaos tools

TOOLS         := $(CURDIR)/.tools
GOLANGCI      := $(TOOLS)/golangci-lint-v2.15.0

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start everything in one process: database, broker, API, relay, consumer, mail sink, status page
	go run . dev

setup: swagger-install tools ## fetch the modules and tools, so that everything after it works offline
	go mod download

build: ## build bin/walpost, static and without CGO
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/walpost .

clean: ## remove what build and tools left here (the data of `dev` stays: walpost dev --reset)
	rm -rf bin .tools

test: ## run every test this machine can run, and say what was left out
	go run ./internal/suites -race -timeout 10m ./...

check: $(GOLANGCI) ## lint, layering, generated files in step
	$(GOLANGCI) run ./...
	go mod tidy -diff
	go test ./test/layout/
	@before=$$(mktemp -d) && cp -r docs/api internal/generated $$before && $(MAKE) --no-print-directory swagger && \
	diff -r docs/api $$before/api && diff -r internal/generated $$before/generated && rm -r $$before || \
	{ echo "generated files were not in step with docs/api/swagger.yaml; they are now: commit them"; exit 1; }

fmt: $(GOLANGCI) ## format the code
	$(GOLANGCI) fmt ./...

swagger-install: ## fetch the code generator (pinned in go.mod)
	go build -o /dev/null github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen

swagger: ## make docs/api/swagger.json and internal/generated/api_models from docs/api/swagger.yaml
	go generate ./docs/api

db-migrate-up: ## create tables, publication and slot (DATABASE_URL, else the database of `dev`)
	go run . migrate up
	go run . slot create --if-missing

topics: ## create the topics (KAFKA_BROKERS, else the broker of `dev`)
	go run . topics create

bench: ## run the micro-benchmarks
	go test -run '^$$' -bench . -benchmem ./...

# Kafka's data is in memory, where there is room for it: on one disk with PostgreSQL's each waits for the other's writes. KAFKA_DIR= puts it there.
KAFKA_DIR ?= $(wildcard /dev/shm)
performance: build ## measure for docs/performance.md: three quarters of an hour, on a machine that does nothing else
	bin/walpost bench relay --out docs $(if $(KAFKA_DIR),--kafka-dir $(KAFKA_DIR))
	bin/walpost bench path --out docs $(if $(KAFKA_DIR),--kafka-dir $(KAFKA_DIR))
	bin/walpost bench soak --out docs $(if $(KAFKA_DIR),--kafka-dir $(KAFKA_DIR))

chaos: build ## hold exactly once against 20 runs of kills and cut connections, and that against broken relays: half an hour
	bin/walpost chaos
	go test ./test/chaos -count=1 -timeout 45m -v -every

tools: $(GOLANGCI) ## install the linter into .tools

$(GOLANGCI):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $@
