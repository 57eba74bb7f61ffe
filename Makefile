# Two commands do everything on a machine that has only Go and make: make run and make test.

GO            ?= go
GOLANGCI      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CONFIG        ?= config.toml
FUZZTIME      ?= 10m
WORKERS       ?= 2
TARGETS       ?= .
GOAL          ?= 0
EQUAL         ?= 1000000
BENCH         ?= .
COUNT         ?= 1
ROUNDS        ?= 3
SECONDS       ?= 3
MINUTES       ?= 10
RATE          ?= 0
export CGO_ENABLED ?= 0

.PHONY: build filters run test race equal fuzz bench bench-peers bench-paced bench-overload bench-growth bench-cores bench-attacks bench-soak lint format check clean

build: filters ## bin/weir, one static file with the built-in filters in it
	$(GO) build -trimpath -ldflags="-s -w -X main.version=$(VERSION)" -o bin/weir ./cmd/weir

filters: ## the built-in filters as Wasm, in filters/dist
	$(GO) run ./filters/build

run: build ## serve CONFIG, by default config.toml
	bin/weir run $(CONFIG)

test: filters ## every test that needs nothing but Go
	$(GO) vet ./... && $(GO) vet -tags peers ./host
	$(GO) test ./...

race: filters ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

equal: filters ## each filter, native and as Wasm, in EQUAL generated calls
	$(GO) test -count=1 -timeout 1h -run TestEqual ./filters/acl ./filters/alternate ./filters/authority ./filters/hosts ./filters/rewrite ./filters/rules ./filters/template -equal $(EQUAL)

fuzz: ## each fuzz target for FUZZTIME, or on the corpus alone if that is 0, WORKERS at a time, or those whose package and name match TARGETS; with LEDGER, a file, executions are added up there, up to GOAL for each, and the corpus is written too
	$(GO) run ./host/internal/fuzzall -fuzztime $(FUZZTIME) -workers $(WORKERS) -run '$(TARGETS)' -goal $(GOAL) -ledger "$(LEDGER)"

bench: filters ## Go benchmarks, ready for benchstat: make bench COUNT=10 > new.txt
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./...

bench-attacks: SECONDS = 10

bench-peers bench-paced bench-overload bench-growth bench-cores bench-attacks bench-soak: build ## weir as a process, beside its peers and under load: see host/internal/bench/README.md
	$(GO) build -o bin/bench ./host/internal/bench
	bin/bench -rounds $(ROUNDS) -seconds $(SECONDS) -minutes $(MINUTES) -rate $(RATE) -workloads "$(WORKLOADS)" -peers "$(PEERS)" $(@:bench-%=%)

lint: ## the linters of .golangci.yml, for the host and for the guests, whose tests run on the host
	test -x bin/golangci-lint || GOBIN=$(CURDIR)/bin $(GO) install $(GOLANGCI)
	bin/golangci-lint run ./...
	GOOS=wasip1 GOARCH=wasm bin/golangci-lint run --tests=false ./sdk/... ./filters/... ./examples/...

format: ## gofmt
	gofmt -w $$(git ls-files '*.go')

check: format lint test ## what a change must pass; fails if formatting changed the tree
	git diff --exit-code

clean:
	rm -rf bin filters/dist/*.wasm filters/dist/*.zip
