# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The checker that all of these tests trust, on histories with one violation each. What each of
them is stands in tests/system/test_journal.py."""

from faultlib import figures
from test_journal import KINDS, SEEDS, clean


def test_every_seeded_violation_is_found():
    found = 0
    for seed in SEEDS:
        s = clean()
        seed(s)
        found += s.check(excused=("Server.Busy",)) == [seed.__name__.split("_")[0]]
    figures("the checker", seeded_violations=len(SEEDS), of_kinds=len(KINDS), found=found,
            found_in_a_clean_history=len(clean().check(excused=("Server.Busy",))))
    assert found == len(SEEDS) >= 10
