# authsome. `make test` installs what the tests need and runs all of them.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: build demo test deps check unit race fuzz bench clean

build: ## bin/authsome
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/authsome ./cmd/authsome

demo: ## the main job, on this machine
	$(GO) run ./cmd/authsome demo

test: deps check race ## everything that has to hold

deps: ## real clients and servers for the tests, from the registries
	./.ci/deps

check: ## formatting, vet, staticcheck, and that it builds for other systems
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run: gofmt -w .'; exit 1; }
	$(GO) vet ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

unit: ## the tests alone, without the race detector
	$(GO) test -shuffle=on ./...

race: ## the tests with the race detector
	$(GO) test -race -shuffle=on -timeout 12m ./...

bench: ## the proxy against its peers; writes docs/benchmarks.md and .svg
	cd proxy/bench && $(GO) run . -docs ../../docs

fuzz: ## every fuzz target for a minute
	./.ci/fuzz

clean:
	rm -rf bin .cache
