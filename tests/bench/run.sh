#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Run by `make bench`; kaiten-performance(7) says what FIGURES, QUICK, SCALE and BENCH_DIR are.
set -eu
: "${abs_top_srcdir:?run by make bench}" "${abs_top_builddir:?run by make bench}"
PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" "$abs_top_srcdir/tests/bench/bench.py"
