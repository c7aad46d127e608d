"""The short form of ./dev chaos: a few kills of each kind, at other moments each time."""
import pathlib
import random
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import storm  # noqa: E402


@pytest.mark.parametrize("kind, kills", (("applications", 15), ("daemons", 4), ("both", 3)))
def test_no_span_is_missing_or_there_twice_after_kills(kind, kills, build_dir):
    seed = random.getrandbits(32)
    print(f"seed {seed}: to repeat in the long form, ./dev chaos --seed {seed} --{kind} {kills}")
    for sums in storm.storm(build_dir, seed, kind, kills, lambda: None):
        print(sums)
        assert sums["arrived"] > 0, "this run shows nothing"
