"""build/examples/log_*: the ids in their log lines are those of the spans that arrive."""
import json
import re
import subprocess

import pytest

from conftest import eventually
from lib.backends import config

LINE = re.compile(r"^trace_id=(\w*) span_id=(\w*) trace_flags=(\w*) (.+)$")
# What the lines say, and the span in which they are said.
LINES = [("ready", None), ("checkout: order A-12345", "checkout"), ("charge card: 59.90 EUR", "charge card"),
         ("checkout: paid", "checkout"), ("done", None)]  # fmt: skip


def spans_in(file):
    """(trace id, span id, flags) of each span, by name."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    found[span["name"]] = (span["traceId"], span["spanId"], f"{span['flags'] & 0xFF:02x}")
    return found


@pytest.mark.parametrize("example", ["log_printf", "log_printf_c", "log_spdlog", "log_boost"])
def test_the_ids_of_log_lines_are_those_of_their_spans(daemon, build_dir, tmp_path, example):
    program = build_dir / "examples" / example
    if example == "log_boost" and not program.exists():
        pytest.skip("built without Boost.Log (libboost-log1.81-dev)")
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    done = subprocess.run([program], env=daemon.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = [LINE.match(line) for line in done.stdout.splitlines()]
    assert all(lines) and len(lines) == len(LINES), done.stdout
    spans = eventually(lambda: len(spans_in(out)) >= 2 and spans_in(out), "both spans are in the file")
    assert set(spans) == {"checkout", "charge card"}
    expected = [(*(spans[span] if span else ("", "", "")), text) for text, span in LINES]
    said = [line.groups() for line in lines]
    # Boost.Log's stream says 59.9.
    assert [(*ids, text.replace("59.9 ", "59.90 ")) for *ids, text in said] == expected
