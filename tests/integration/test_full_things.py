"""What fills up, fails or is limited: nothing is lost uncounted, `oteld status` says what is wrong and what to do about it,
and when the obstacle is gone everything that was held is delivered, without a restart.

What else there is of this kind: a spool that is full (test_full_spool.py), memory limits (test_memory_cgroup.py), very many
threads and processes (test_many.py), what a client alone meets (tests/unit/client/obstacles_test.cpp).
"""
import json
import subprocess

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import load, seen_in_file
from lib.obstacles import MIB, Disk, Tmpfs, limit

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
        eventually(said, f"`oteld status` says {wanted}", 30)
    except BaseException:
        print(json.dumps(last.get("reasons")), json.dumps(last.get("notes")), daemon.log_text()[-3000:])
        raise
    assert last["verdict"] == "degraded"
    return last


def assert_healthy_again(daemon):
    eventually(lambda: daemon.status()["verdict"] == "healthy", f"the verdict is healthy again: {daemon.status()['reasons']}", 30)


def assert_held(daemon, service, spans):
    """The spans wait for the exporters, but for what went in before the disk was full."""
    def drained():
        status = daemon.status()
        rows = rows_of(status, service)
        return total(rows, "started") == spans and all(row["life"] != "alive" for row in rows) and status

    try:
        status = eventually(drained, f"the spans of {service} are drained", 5)
    except BaseException:
        print(json.dumps(daemon.status(), indent=1)[:6000])
        raise
    assert_balanced(status)
    for kind in Written.kinds:
        share, = shares(rows_of(status, service), kind)
        assert share["delivered"] + share["in_daemon"] == spans and share["in_daemon"] > 0, share


def test_a_full_disk(daemon, tmp_path):
    with Tmpfs(tmp_path / "disk", "8m") as disk:
        written = Written(daemon, disk.top)
        daemon.start(written.config())
        load(daemon, "before", spans=200)
        wait_at_rest(daemon, "before")
        disk.fill()
        load(daemon, "meanwhile", spans=2000)
        says(daemon, ("file", "spans.jsonl is full: free some space"), ("trace_store", "traces.db is full: free some space"))
        assert_held(daemon, "meanwhile", 2000)
        written.assert_has("before", 200)
        # A daemon that is started beside a full disk is none the worse for it.
        daemon.kill()
        daemon.start(written.config())
        says(daemon, ("spans.jsonl is full",), ("traces.db is full",))
        assert_held(daemon, "meanwhile", 2000)
        disk.make_room()
        assert_balanced(wait_at_rest(daemon, "meanwhile"))
        written.assert_has("before", 200)
        written.assert_has("meanwhile", 2000)
        assert_healthy_again(daemon)


def test_a_disk_that_fails_under_open_files(daemon, tmp_path):
    """It turns read-only, is unmounted, and comes back."""
    with Disk(tmp_path / "disk") as disk:
        written = Written(daemon, disk.top)
        daemon.start(written.config())
        load(daemon, "before", spans=200)
        wait_at_rest(daemon, "before")
        disk.fail()
        load(daemon, "meanwhile", spans=500)
        says(daemon, ("file", "read-only file system: mount it writable"),
             ("trace_store", "read-only file system: mount it writable"))
        written.assert_has("before", 200)
        disk.unmount()
        says(daemon, ("file", "does not exist: create it"), ("trace_store", "does not exist: create it"))
        assert_held(daemon, "meanwhile", 500)
        disk.attach()
        assert_balanced(wait_at_rest(daemon, "meanwhile"))
        written.assert_has("before", 200)
        written.assert_has("meanwhile", 500)
        assert_healthy_again(daemon)


def test_a_file_size_limit(daemon, tmp_path):
    written = Written(daemon, tmp_path)
    too_low = tmp_path / "oteld.yaml"
    too_low.write_text(written.config())
    # Below the spool there is no start, but a reason.
    refused = subprocess.run(["prlimit", f"--fsize={5 * MIB}", daemon.oteld, "run", "--config", too_low],
                             env=daemon.environment, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert refused.returncode == 1 and "Raise LimitFSIZE=" in refused.stderr, refused
    daemon.start(written.config())
    limit(daemon.process, fsize=5 * MIB)
    load(daemon, "large", spans=20_000, rate=100_000)
    says(daemon, ("spans.jsonl reached the file-size limit of the daemon: raise LimitFSIZE=",),
         ("traces.db reached the file-size limit of the daemon: raise LimitFSIZE=",))
    assert_held(daemon, "large", 20_000)
    limit(daemon.process, fsize="unlimited")
    assert_balanced(wait_at_rest(daemon, "large"))
    written.assert_has("large", 20_000)
    assert_healthy_again(daemon)
