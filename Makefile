# Needs Go, make and git. Everything else is pinned in tools/ and fetched by Go.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Modules with a go.mod of their own, so that what they need stays out of the
# library's.
NESTED := $(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod))
# Tests that start real processes and look at rates run after all others, with
# the machine to themselves.
SYSTEM := ./test
# What is too large for the race detector, and smaller under it.
LARGE := TestNoStampedeAfterARestart
PACKAGES = $$(go list ./... | grep -v '/test$$')

BIN := bin
PROGRAMS := ./cmd/registryd ./examples/echo-server ./examples/echo-client ./examples/demo
PROTOS := proto/echo/v1/echo.proto
# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
COUNT ?= 1
FUZZTIME ?= 30s
ROLLTIME ?= 30m

.PHONY: help
help: ## Explain every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Watch a service being balanced, rolled and killed under load (under a minute)
	@$(BIN)/demo -bin $(BIN)

.PHONY: build
build: ## Build the programs into bin/
	@mkdir -p $(BIN)
	go build -o $(BIN)/ $(PROGRAMS)

.PHONY: test
test: ## Run every test, with the race detector, and the programs as real processes
	@[ -n "$(RACE)" ] || echo "no C compiler, so no race detector: what it would find is not looked for"
	go vet ./...
	for module in $(NESTED); do (cd $$module && go vet ./... && go test ./...) || exit 1; done
	go test $(RACE) $(PACKAGES)
	[ -z "$(RACE)" ] || go test -run=$(LARGE) ./registry/httpregistry
	go test -count=1 -parallel=4 $(SYSTEM)

.PHONY: race
race: ## Run every test of the library three times with the race detector
	go test -race -count=3 $(PACKAGES)

.PHONY: soak
soak: ## Run the long forms of the tests under kills and with real processes (about 30 minutes)
	go test -count=1 -timeout=10m -v -run='TestPaymentIsNeverMadeTwice|TestTwoOfThreeAlwaysFail' ./interceptors/failmode -args -soak
	go test -count=1 -timeout=60m -v $(SYSTEM) -args -soak

.PHONY: roll
roll: ## Restart servers under the load of four kinds of client for ROLLTIME (30m)
	go test -count=1 -timeout=0 -v -run='TestRollLosesNoCall' $(SYSTEM) -args -soak -roll=$(ROLLTIME)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s)
	grep -rn --include='*_test.go' -o 'func Fuzz[A-Za-z0-9_]*' . | sed 's/:[0-9]*:func / /' | while read -r file target; do \
	  go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1s "$$(dirname "$$file")" || exit 1; done

.PHONY: bench
bench: ## Run the benchmarks; the output is for benchstat (COUNT=10 for medians)
	cd bench && go test -run='^$$' -bench=. -benchmem -count=$(COUNT) -timeout=0 ./...

.PHONY: bench-table
bench-table: ## Print how rollcall compares with others and which targets it meets (about 30 minutes)
	cd bench && go test -tags=peers,no_k8s -run='^TestTable$$' -timeout=0 -args -table

.PHONY: shutdown-table
shutdown-table: ## Print what a rolling restart costs with other ways to take servers down (about 7 minutes)
	cd bench/shutdown && go test -run='^TestTable$$' -timeout=0 -args -table

.PHONY: simulation
simulation: ## Print what callers see of instances that are ill, with each policy (in fake time)
	go test -count=1 -v -run='^TestSimulation$$' ./balancer

.PHONY: lint
lint: ## Check formatting, vet, staticcheck and Go's own modernizers
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	@mkdir -p $(BIN)
	go build -modfile=tools/lint.mod -o $(BIN)/staticcheck honnef.co/go/tools/cmd/staticcheck
	for module in . $(NESTED); do (cd $$module && go vet ./... && "$(CURDIR)/$(BIN)/staticcheck" ./... && \
	  fixes=$$(go fix -diff ./... || true) && { [ -z "$$fixes" ] || { echo "$$fixes"; exit 1; }; }) || exit 1; done

.PHONY: fmt
fmt: ## Format the code and apply Go's modernizers
	gofmt -w $$(git ls-files '*.go' ':!*.pb.go')
	for module in . $(NESTED); do (cd $$module && go fix ./...) || exit 1; done

.PHONY: generate
generate: ## Generate the code of the .proto files
	cd tools/protogen && go run . ../.. $(PROTOS)

.PHONY: checkgenerate
checkgenerate: generate ## Fail if the generated code is not what the .proto files say
	@changed=$$(git status --porcelain -- proto); [ -z "$$changed" ] || { git --no-pager diff -- proto; echo "$$changed"; echo "generated code differs: commit what 'make generate' makes"; exit 1; }

.PHONY: clean
clean: ## Remove what make built
	rm -rf $(BIN)
