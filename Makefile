# hylas: `make` alone lists the targets. Everything is built below build/, everything fetched lies below .deps/.
# Ninja does the work: builds are incremental, and ccache makes second ones quick.
BUILD_TYPE   ?= Release
FUZZ_SECONDS ?= 30
PORT         ?= 30000
HOST         ?= 127.0.0.1
JOBS         ?= $(shell nproc)
export PORT HOST MODEL ONCE JOBS FUZZ_SECONDS
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

CONFIGURE = cmake -S . -G Ninja --log-level=NOTICE
NINJA     = ninja -j $(JOBS)
.PHONY: help demo build cuda test test-asan test-tsan fuzz bench format clean

help:
	@echo 'hylas serves Qwen3.5 models. On a fresh Debian 12 or Ubuntu 24.04 (git, make and python3 are enough):'
	@echo
	@echo '  make demo       build, serve the demo model on $(HOST):$(PORT) and stream one answer; Ctrl-C ends it'
	@echo '                  ONCE=1 ends after the answer   PORT=30001   MODEL=/path/to/checkpoint'
	@echo '  make test       build and run every test'
	@echo '  make build      build the program: build/release/hylas'
	@echo '  make cuda       the same with the CUDA backend (nvcc of CUDA 13): build/cuda/hylas, and its tests'
	@echo
	@echo '  make test-asan  every test under AddressSanitizer and UndefinedBehaviorSanitizer  (QUICK=1: the quick part)'
	@echo '  make test-tsan  every test under ThreadSanitizer                                  (QUICK=1: the quick part)'
	@echo '  make fuzz       run each fuzzer; FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo '  make bench      build and run the benchmarks'
	@echo '  make format     format the sources with clang-format'
	@echo '  make clean      remove build/ (.deps/ stays: delete it by hand to fetch everything again)'
	@echo
	@echo 'Missing packages are installed with apt (as root or through sudo). More: docs/development.md'

demo:
	@scripts/setup.sh build
	@$(CONFIGURE) -B build/release -DCMAKE_BUILD_TYPE=$(BUILD_TYPE)
	@$(NINJA) -C build/release hylas
	@python3 scripts/demo.py

build:
	@scripts/setup.sh build
	@$(CONFIGURE) -B build/release -DCMAKE_BUILD_TYPE=$(BUILD_TYPE)
	@$(NINJA) -C build/release hylas

cuda:
	@scripts/setup.sh build test cuda
	@$(CONFIGURE) -B build/cuda -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DHYLAS_CUDA=ON
	@$(NINJA) -C build/cuda hylas test_cuda test_model test_engine

test:
	@scripts/setup.sh build test
	@$(CONFIGURE) -B build/release -DCMAKE_BUILD_TYPE=$(BUILD_TYPE)
	@$(NINJA) -C build/release
	@scripts/test.sh build/release

test-asan:
	@scripts/setup.sh build test
	@$(CONFIGURE) -B build/asan -DCMAKE_BUILD_TYPE=Release -DHYLAS_SANITIZE=address,undefined
	@$(NINJA) -C build/asan $(if $(QUICK),quick_tests)
	@scripts/test.sh build/asan

test-tsan:
	@scripts/setup.sh build test
	@$(CONFIGURE) -B build/tsan -DCMAKE_BUILD_TYPE=Release -DHYLAS_SANITIZE=thread
	@$(NINJA) -C build/tsan $(if $(QUICK),quick_tests)
	@scripts/test.sh build/tsan

fuzz:
	@scripts/setup.sh build fuzz
	@$(CONFIGURE) -B build/fuzz -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-19 -DHYLAS_FUZZ=ON
	@$(NINJA) -C build/fuzz fuzzers
	@scripts/fuzz.sh build/fuzz

bench:
	@scripts/setup.sh build bench
	@$(CONFIGURE) -B build/release -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DHYLAS_BENCH=ON
	@$(NINJA) -C build/release benchmarks
	@for program in build/release/*_bench; do $$program || exit 1; done

format:
	@scripts/setup.sh format
	@git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs clang-format-19 -i

clean:
	rm -rf build
