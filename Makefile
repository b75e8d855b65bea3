# A short front for people. CMake and its presets do the work; `cmake --preset release && cmake --build build` is the same
# as `make` on a machine that has everything.
BUILD := build
JOBS  := $(shell nproc 2>/dev/null || echo 2)
ARGS  :=
FUZZ_SECONDS := 60

.DEFAULT_GOAL := all
.PHONY: all help run test test-night test-release test-models test-tokenizers test-reference check-asan check-tsan \
        coverage analyze fuzz tidy bench arm64 install clean setup

all: setup ## build/pillion, with everything that it needs
	@$(call build,release,$(BUILD))

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / {printf "make %-16s %s\n", $$1 == "all" ? "" : $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## build what serves, and start it; ARGS="--port 9000" passes options on
	@$(call build,release,$(BUILD)) --target pillion
	@exec $(BUILD)/pillion serve $(ARGS)

test: ## build and run all tests that need no large download
	@tools/setup.sh build test
	@$(call build,release,$(BUILD))
	@$(call build,faults,build-faults)
	@$(call ctest,$(BUILD))

test-night: all ## the long fault runs, some two hours; ARGS="W1 --seed 7" for some of them
	@$(call build,faults,build-faults)
	@PILLION_BIN=$(BUILD)/pillion python3 -B tests/faults/run.py --tier night $(ARGS)

test-release: all ## the fault runs before a release: a day; ARGS="--minutes 60" for shorter ones
	@$(call build,faults,build-faults)
	@PILLION_BIN=$(BUILD)/pillion python3 -B tests/faults/run.py --tier release $(ARGS)

test-models: all ## compare vectors of four real models with committed references (500 MB to fetch)
	@tools/test_models.sh $(BUILD)

test-tokenizers: all ## compare token ids with the tokenizers package on some 20,000 real lines
	@tools/test_tokenizers.sh $(BUILD) $(ARGS)

test-reference: all ## compare vectors with a live sentence-transformers (5 GB to fetch)
	@tools/test_models.sh $(BUILD) --live

check-asan: ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/setup.sh build test
	@$(call build,asan,build-asan)
	@$(call ctest,build-asan)

# Its hidden thread keeps workers from being caged, and its shadow a terabyte from being mapped. Left out are the rooms
# that never start a thread, and the golden vectors on lower tiers, which share theirs with lib/golden.
check-tsan: ## the tests of all that has threads under ThreadSanitizer; of the server that is parsing large bodies
	@tools/setup.sh build test
	@$(call build,tsan,build-tsan)
	@$(call ctest,build-tsan) -LE faults \
	  -E '^(weights|token|engine|compile|sched|kernel|fuzz)/|^lib/golden_|^http/|^sandbox/worker_cage|^cmd/malformed'
	@$(call ctest,build-tsan) -R '^http/turns$$'

coverage: ## line coverage of src/ by the tests
	@tools/setup.sh build test coverage
	@$(call build,coverage,build-coverage)
	@tools/coverage.sh build-coverage

analyze: ## gcc -fanalyzer, clang-tidy and cppcheck over src/
	@tools/setup.sh build analyze
	@test -e $(BUILD)/build.ninja || cmake --preset release
	@test -e build-analyze/build.ninja || cmake --preset analyze
	@python3 tools/analyze.py $(BUILD) build-analyze

fuzz: ## every fuzz target for FUZZ_SECONDS (60) each
	@tools/setup.sh build fuzz
	@$(call build,fuzz,build-fuzz) --target fuzz/all
	@tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

tidy: ## the rules that a compiler does not check
	@python3 tools/tidy.py --self-test
	@python3 tools/tidy.py

bench: all ## speed, start-up and memory beside PyTorch and ONNX Runtime (7 GB to fetch); bench/results/
	@bench/run.sh $(BUILD)

arm64: ## cross build for arm64, tested under qemu
	@tools/arm64.sh $(BUILD)

install: all ## into DESTDIR and PREFIX (/usr/local)
	@cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

clean: ## what builds have made; fetched models and libraries stay
	@rm -rf build build-debug build-asan build-tsan build-coverage build-analyze build-fuzz build-faults build-arm64

setup: ## packages, libraries and weights, as far as they are missing
	@tools/setup.sh build

# build PRESET FOLDER: configures once; ninja notices later changes itself
build = { test -e $(2)/build.ninja || cmake --preset $(1); } && cmake --build $(2) -j $(JOBS)
ctest = ctest --test-dir $(1) --output-on-failure -j $(JOBS)
