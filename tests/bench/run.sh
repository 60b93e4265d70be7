#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Run by `make bench`. FIGURES="verify_p1 mint_64" measures these alone, QUICK=1 with less of
# everything, BENCH_DIR=path keeps prepared stores there (a real disk, not a tmpfs).
set -eu
: "${abs_top_srcdir:?run by make bench}" "${abs_top_builddir:?run by make bench}"
PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" "$abs_top_srcdir/tests/bench/bench.py"
