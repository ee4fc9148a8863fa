# Torpor. `make help` lists the targets. CMake does the work (CMakePresets.json); this file is its short form.
SHELL := /bin/bash
BUILD := build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
NINJA := ninja --quiet -j$(JOBS)

.PHONY: all engine demo test fast bench asan tsan arm64 fuzz format format-check tidy install clean help

all: ## build torpor and torpor-lab (the default); gets LibTorch, 545 MB, the first time
	@scripts/setup lab
	@scripts/configure $(BUILD) TORPOR_LAB
	@$(NINJA) -C $(BUILD) torpor torpor-lab

engine: ## build torpor alone, without LibTorch
	@scripts/setup demo
	@scripts/configure $(BUILD)
	@$(NINJA) -C $(BUILD) torpor

demo: engine ## measure a small real model and write a report: torpor profile
	@scripts/demo $(BUILD)

test: ## build everything and run all tests
	@scripts/setup test
	@scripts/configure $(BUILD) TORPOR_LAB TORPOR_TESTS TORPOR_BENCH
	@$(NINJA) -C $(BUILD)
	@scripts/run_tests $(BUILD)

fast: ## build everything and run the one-minute tier of the tests
	@scripts/setup test
	@scripts/configure $(BUILD) TORPOR_LAB TORPOR_TESTS TORPOR_BENCH
	@$(NINJA) -C $(BUILD)
	@scripts/run_tests $(BUILD) -L '^fast$$'

bench: ## build and run every benchmark
	@scripts/setup test
	@scripts/configure $(BUILD) TORPOR_BENCH
	@$(NINJA) -C $(BUILD)
	@scripts/run_benchmarks $(BUILD)

asan: ## the fast tests under the address and undefined-behaviour sanitizers, in build-asan/
	@scripts/setup test
	@cmake --preset asan >/dev/null
	@$(NINJA) -C build-asan torpor_fast_tests
	@scripts/run_tests build-asan -L '^fast$$'

tsan: ## the tests labelled "threads" under the thread sanitizer, in build-tsan/
	@scripts/setup test
	@cmake --preset tsan >/dev/null
	@$(NINJA) -C build-tsan torpor_thread_tests
	@scripts/run_tests build-tsan -L '^threads$$'

arm64: ## the engine's kernels and sessions on arm64 (NEON), under qemu-user, in build-arm64/
	@scripts/setup arm64
	@cmake --preset arm64 -DTORPOR_ARM64="$${TORPOR_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/torpor}/arm64" >/dev/null
	@$(NINJA) -C build-arm64 test_kernels test_tensor test_session
	@scripts/run_tests build-arm64 -R '^(kernels|tensor|session)\.' -E LargeFile

fuzz: ## every fuzz target for TORPOR_FUZZ_SECONDS (30), in build-fuzz/
	@scripts/setup test
	@cmake --preset fuzz -DTORPOR_FUZZ_SECONDS=$(or $(TORPOR_FUZZ_SECONDS),30) >/dev/null
	@$(NINJA) -C build-fuzz torpor_fuzzers
	@scripts/run_tests build-fuzz -L '^fuzz$$'

format: ## rewrite our C++ files with clang-format
	@scripts/sources | xargs clang-format-14 -i

format-check: ## fail where clang-format would change something
	@scripts/sources | xargs clang-format-14 --dry-run --Werror

tidy: ## clang-tidy over our sources; a warning is an error
	@scripts/setup test
	@cmake --preset tidy >/dev/null
	@scripts/tidy build-tidy

install: all ## install below PREFIX (/usr/local)
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove the build folders
	@rm -rf build build-engine build-debug build-tidy build-asan build-tsan build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | \
	  while IFS=$$'\t' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done
