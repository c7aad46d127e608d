"""The exporters that write to disk, and what a test asks about them when they cannot."""
import json

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, shares, total
from lib.load import seen_in_file

QUICK = {"retry_on_failure": {"initial_interval": "50ms", "max_interval": "200ms"}}


class Written:
    """The exporters that write to disk, `file` and `trace_store`, both below one directory."""

    kinds = ("file", "trace_store")

    def __init__(self, daemon, directory):
        self.daemon = daemon
        self.lines = directory / "spans.jsonl"
        self.store = directory / "traces.db"

    def config(self, **more):
        return config({"file": {"path": str(self.lines), **QUICK}, "trace_store": {"path": str(self.store), **QUICK}, **more})

    def assert_has(self, service, spans):
        mine = [span for span in seen_in_file(self.lines) if span.service == service]
        assert len(mine) == len({(span.thread, span.seq) for span in mine}) == spans
        listed = json.loads(self.daemon.run("traces", "--store", self.store, "--json", "--limit", 0, "--service", service).stdout)
        assert sum(trace["span_count"] for trace in listed["traces"]) == spans


def says(daemon, *wanted):
    """Waits until for each of `wanted` (words, one after the other) there is a reason with them; returns that status."""
    last = {}

    def said():
        nonlocal last
        last = daemon.status()
        return all(any(all(word in reason for word in words) for reason in last["reasons"]) for words in wanted)

    try:
        eventually(said, f"`oteld status` says {wanted}")
    except BaseException:
        print(json.dumps(last.get("reasons")), json.dumps(last.get("notes")), daemon.log_text()[-3000:])
        raise
    assert last["verdict"] == "degraded"
    return last


def assert_healthy_again(daemon):
    eventually(lambda: daemon.status()["verdict"] == "healthy", f"the verdict is healthy again: {daemon.status()['reasons']}")


def assert_held(daemon, service, spans):
    """The spans wait for the exporters, but for what went in before the disk was full."""
    def drained():
        status = daemon.status()
        rows = rows_of(status, service)
        return total(rows, "started") == spans and all(row["life"] != "alive" for row in rows) and status

    status = eventually(drained, f"the spans of {service} are drained")
    assert_balanced(status)
    for kind in Written.kinds:
        share, = shares(rows_of(status, service), kind)
        assert share["delivered"] + share["in_daemon"] == spans and share["in_daemon"] > 0, share
