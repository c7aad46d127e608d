"""What tests/bench/compare says of a list of ratios."""
import importlib.machinery
import importlib.util

import sources

LOADER = importlib.machinery.SourceFileLoader("compare", str(sources.ROOT / "tests/bench/compare"))
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", LOADER))
LOADER.exec_module(compare)


def test_a_difference_is_one_only_when_nearly_all_pairs_show_it():
    assert compare.verdict([0.9, 0.91, 0.92, 0.9, 1.3]).endswith("faster")
    assert compare.verdict([1.1, 1.12, 1.1, 0.8, 1.2]).endswith("slower")
    assert compare.verdict([0.9, 0.95, 1.0, 1.05, 1.1]).endswith("no difference to be seen")


def test_the_median_comes_with_the_range_of_eight_pairs_in_ten():
    assert compare.verdict([n / 10 for n in range(1, 11)]).split()[:4] == ["0.550", "(0.200", "to", "0.900)"]
