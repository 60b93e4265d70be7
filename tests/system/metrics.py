# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A reader of the text format of Prometheus (0.0.4) that takes nothing but what its rules allow."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? "
                    r"([+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type, self.samples = name, help_text, None, []


def labels_of(text):
    pairs = re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"', text or "")
    assert len(dict(pairs)) == len(pairs), f"a label twice: {text}"
    return tuple((k, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), v))
                 for k, v in pairs)


def read_families(text):
    """Families in order. A family is its HELP, its TYPE and then all of its samples."""
    assert text.endswith("\n") and "\r" not in text and "\n\n" not in text
    families, seen = [], set()
    for line in text[:-1].split("\n"):
        if m := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            assert m[1] not in {f.name for f in families}, f"{m[1]} twice"
            families.append(Family(m[1], m[2]))
        elif m := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert m[1] == families[-1].name and families[-1].type is None, line
            families[-1].type = m[2]
        else:
            m = SAMPLE.fullmatch(line)
            assert m, f"no sample: {line!r}"
            family = families[-1]
            assert family.type, line
            suffix = m[1].removeprefix(family.name)
            assert m[1].startswith(family.name) and suffix in SUFFIXES[family.type], line
            key = (m[1], labels_of(m[2]))
            assert key not in seen, f"a sample twice: {line}"
            seen.add(key)
            family.samples.append((suffix, dict(key[1]), float(m[3])))
    return families


def check_histogram(family):
    """Buckets rise, end with +Inf, and that one is the count."""
    series = {}
    for suffix, labels, value in family.samples:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        one = series.setdefault(key, {"buckets": [], "_sum": None, "_count": None})
        if suffix == "_bucket":
            one["buckets"].append((float(labels["le"].replace("+Inf", "inf")), value))
        else:
            assert "le" not in labels and one[suffix] is None
            one[suffix] = value
    for key, one in series.items():
        ends, counts = zip(*one["buckets"])
        assert list(ends) == sorted(set(ends)) and ends[-1] == math.inf, key
        assert list(counts) == sorted(counts) and counts[-1] == one["_count"], key
        assert one["_sum"] >= 0


def check_names(family):
    """What promtool asks for: counters end in _total and nothing else does; base units."""
    assert (family.type == "counter") == family.name.endswith("_total"), family.name
    assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|kilobytes|percent)\b", family.name)
    assert family.help.endswith("."), family.name


class Metrics:
    def __init__(self, text):
        self.families = {f.name: f for f in read_families(text)}
        for family in self.families.values():
            check_names(family)
            if family.type == "histogram":
                check_histogram(family)
            assert all(v >= 0 and not math.isnan(v) for _, _, v in family.samples), family.name

    def get(self, name, suffix="", **labels):
        """The sum of all samples that have these labels."""
        return sum(value for s, have, value in self.families[name].samples
                   if s == suffix and labels.items() <= have.items())


def scrape(client):
    """client: a conftest.Http."""
    answer = client.request("GET", "/metrics")
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers
    return Metrics(answer.body.decode("ascii"))
