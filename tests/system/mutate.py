# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Texts that are nearly good: good ones, with a few small edits that a generator chooses."""


def edit(rng, data, seeds, pieces):
    """One edit of a bytearray, somewhere."""
    at = rng.randint(0, len(data))
    end = min(len(data), at + rng.randint(1, 8))
    kind = rng.randrange(7)
    if kind == 0 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 1:
        del data[at:end]
    elif kind == 2:
        data[at:at] = data[at:end]
    elif kind == 3:
        data[at:at] = rng.choice(pieces)
    elif kind == 4:
        data[at:end] = rng.choice(pieces)
    elif kind == 5:
        data[at:end] = data[at:end].swapcase()
    else:
        other = rng.choice(seeds)
        data[at:] = other[rng.randint(0, len(other)):]


def edit_line(rng, data, seeds, pieces):
    """As edit(), or a piece where a line may stand; now and then it ends too early."""
    kind = rng.randrange(20)
    if kind == 0:
        del data[rng.randint(0, len(data)):]
    elif kind < 8:
        ends = [i + 2 for i in range(len(data) - 1) if data[i:i + 2] == b"\r\n"]
        at = rng.choice(ends or [rng.randint(0, len(data))])
        data[at:at] = rng.choice(pieces)
    else:
        edit(rng, data, seeds, pieces)


def mutate(rng, seeds, pieces, change=edit, least=1):
    """One of the seeds, changed from least to three times."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(least, 3)):
        change(rng, data, seeds, pieces)
    return bytes(data)
