"""The exporters that need no backend: file, console and trace store receive every span of a run."""
import json
import re

from lib.backends import config
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import load, seen_in_file

SPANS = 5000


def test_file_console_and_trace_store_receive_every_span(daemon, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}, "debug": {"verbosity": "normal"}, "trace_store": {}}))
    printed = load(daemon, "everywhere", threads=3, spans=SPANS, rate=20000, leave_open=5)
    assert (printed["started"], printed["ended"], printed["open"]) == (SPANS + 5, SPANS, 5)
    status = wait_at_rest(daemon, "everywhere")
    assert_balanced(status, {"everywhere": printed})
    rows = rows_of(status, "everywhere")
    for name in ("file", "debug", "trace_store"):
        assert total(shares(rows, name), "delivered") == SPANS + 5, name
    # The file: each span once, with what it had.
    seen = seen_in_file(out)
    assert len(seen) == len({(span.thread, span.seq) for span in seen}) == SPANS + 5
    assert sum(span.unfinished for span in seen) == 5
    # The console.
    assert len(re.findall(r"\bload\.seq\b", daemon.log_text())) == SPANS + 5
    # The store: each of these spans is a trace of its own.
    listed = json.loads(daemon.run("traces", "--json", "--limit", 0).stdout)
    assert sum(trace["span_count"] for trace in listed["traces"]) == len(listed["traces"]) == SPANS + 5
    assert sum(trace["unfinished_count"] for trace in listed["traces"]) == 5
    unfinished = next(trace for trace in listed["traces"] if trace["unfinished_count"])
    tree = json.loads(daemon.run("traces", "--trace", unfinished["trace_id"], "--json").stdout)
    span, = tree["trace"]["spans"]
    assert span["unfinished"] and span["status"] == "error" and span["status_message"] == "process died before the span ended"
    assert span["service"] == "everywhere" and span["attributes"]["load.seq"] > 0


def test_a_rotated_file_has_every_span(daemon, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out), "rotation": {"max_megabytes": 1, "max_backups": 100}}}))
    printed = load(daemon, "rotated", threads=2, spans=SPANS, rate=20000)
    assert_balanced(wait_at_rest(daemon, "rotated"), {"rotated": printed})
    files = sorted(tmp_path.glob("spans*.jsonl*"))
    # A line is one batch; one that is longer than the limit has a file for itself.
    assert len(files) > 1 and all(file.stat().st_size <= 1 << 20 or file.read_bytes().count(b"\n") == 1 for file in files), files
    assert len({(span.thread, span.seq) for span in seen_in_file(*files)}) == SPANS


def test_the_store_keeps_its_traces_over_a_restart(daemon):
    daemon.start(config({"trace_store": {}}))
    load(daemon, "first life", spans=100)
    wait_at_rest(daemon, "first life")
    assert daemon.stop() == 0
    listed = json.loads(daemon.run("traces", "--json", "--limit", 0).stdout)
    assert len(listed["traces"]) == 100
    daemon.start(config({"trace_store": {}}))
    load(daemon, "second life", spans=100)
    wait_at_rest(daemon, "second life")
    listed = json.loads(daemon.run("traces", "--json", "--limit", 0).stdout)
    assert len(listed["traces"]) == 200 and {trace["service"] for trace in listed["traces"]} == {"first life", "second life"}
    only = json.loads(daemon.run("traces", "--json", "--limit", 0, "--service", "second life").stdout)
    assert len(only["traces"]) == 100
