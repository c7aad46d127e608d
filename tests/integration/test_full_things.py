"""What fills up, fails or is limited: nothing is lost uncounted, `oteld status` says what is wrong and what to do about it,
and when the obstacle is gone everything that was held is delivered, without a restart.

What else there is of this kind: a spool that is full (test_full_spool.py), memory limits (test_memory_cgroup.py), very many
threads and processes (test_many.py), what a client alone meets (tests/unit/client/obstacles_test.cpp).
"""
import collections
import contextlib
import json
import signal
import subprocess

import pytest

from conftest import eventually
from lib.backends import Receiver, config, otlp
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_by, seen_in_file
from lib.obstacles import MIB, Disk, Mute, Tmpfs, limit, need_root, run

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


def test_a_disk_that_stands_still(daemon, tmp_path):
    """Whoever writes to it waits for as long as that takes; status is there, and other exporters go on."""
    with Disk(tmp_path / "disk") as disk:
        written = Written(daemon, disk.top)
        daemon.start(written.config(nop={}))
        with disk.stopped():
            load(daemon, "meanwhile", spans=500)
            wait_at_rest(daemon, "meanwhile", exporters=("nop",))
            says(daemon, ("exporter file", "a write has not come back", "hangs or is slow"),
                 ("exporter trace_store", "a write has not come back", "hangs or is slow"))
            assert_held(daemon, "meanwhile", 500)
        assert_balanced(wait_at_rest(daemon, "meanwhile"))
        written.assert_has("meanwhile", 500)
        assert_healthy_again(daemon)


def assert_gave_up_on(daemon, exporter, spans):
    """What the last words of a daemon say that did not wait for a write."""
    log = daemon.log_text()
    assert f"{exporter}: a write has not come back and is not waited for any longer" in log, log
    last_words, = (line for line in log.splitlines() if "stopped:" in line)
    assert f"{spans} spans for {exporter}" in last_words and "are sent by the next oteld" in last_words, log


def test_a_stop_while_a_write_does_not_come_back(daemon, tmp_path):
    """It ends at its deadline, in order, and the next one has the spans."""
    with Mute(tmp_path / "mute") as mute:
        text = config({"file": {"path": str(mute.directory / "spans.jsonl"), **QUICK}, "nop": {}})
        daemon.start(text)
        load(daemon, "meanwhile", spans=500)
        wait_at_rest(daemon, "meanwhile", exporters=("nop",))
        assert daemon.stop() == 0
        assert_gave_up_on(daemon, "file", 500)
        assert daemon.status()["phase"] == "stopped"
        mute.close()
        daemon.start(text)
        assert_balanced(wait_at_rest(daemon, "meanwhile"))
        assert len(seen_in_file(mute.directory / "spans.jsonl")) == 500


def test_a_stop_while_the_kernel_holds_a_write(daemon, tmp_path):
    """Nobody can end such a process, not even by SIGKILL. But the next oteld starts beside what is left of it."""
    with Disk(tmp_path / "disk") as disk:
        daemon.start(Written(daemon, disk.top).config(nop={}))
        with disk.stopped():
            load(daemon, "meanwhile", spans=500)
            wait_at_rest(daemon, "meanwhile", exporters=("nop",))
            left = daemon.process
            for _ in range(2):  # The second signal: stop at once.
                left.send_signal(signal.SIGTERM)
                eventually(lambda: left.poll() is not None or "stopping" in daemon.log_text(), "it heard")
            eventually(lambda: "stopped:" in daemon.log_text(), "it stopped")
            assert_gave_up_on(daemon, "file", 500)
            assert_gave_up_on(daemon, "trace_store", 500)
            elsewhere = Written(daemon, tmp_path)
            daemon.start(elsewhere.config(nop={}))
            assert_balanced(wait_at_rest(daemon, "meanwhile"))
            elsewhere.assert_has("meanwhile", 500)
        assert left.wait(60) == 0


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
    load(daemon, "large", spans=40_000, rate=20_000)
    says(daemon, ("spans.jsonl reached the file-size limit of the daemon: raise LimitFSIZE=",),
         ("traces.db reached the file-size limit of the daemon: raise LimitFSIZE=",))
    assert_held(daemon, "large", 40_000)
    limit(daemon.process, fsize="unlimited")
    assert_balanced(wait_at_rest(daemon, "large"))
    written.assert_has("large", 40_000)


def test_a_descriptor_limit_below_the_number_of_programs(daemon, ring_dir, tmp_path):
    """Rings that cannot be opened wait; what delivers has descriptors all the same; others are opened as some come free."""
    written = Written(daemon, tmp_path)
    daemon.start(written.config())
    limit(daemon.process, nofile=32)
    with contextlib.ExitStack() as running:
        held = [running.enter_context(Load(daemon, f"held {number}", rate=20, seconds=60, progress=tmp_path / f"progress {number}"))
                for number in range(40)]
        eventually(lambda: len(list(ring_dir.glob("*.ring"))) == len(held), "all programs have their rings")
        status = says(daemon, ("not drained: Cannot open", "too many open files. Raise LimitNOFILE=", "more)"))
        assert 0 < status["rings"]["segments"] < 32
        assert_balanced(status)
        eventually(lambda: all(exporter["delivered"] for exporter in daemon.status()["exporters"]), "both exporters deliver")
        known = len(status["applications"])
        for it in held[:30]:
            it.kill()
        eventually(lambda: len(daemon.status()["applications"]) > known, "descriptors that come free are used for others")
        limit(daemon.process, nofile=1024)
        eventually(lambda: not daemon.status()["rings"]["refused"], "all rings are opened")
        for it in held[30:]:
            it.kill()
        status = wait_at_rest(daemon, *(it.service for it in held))
        assert_balanced(status)
        seen = seen_in_file(written.lines)
        for it in held:
            audit_killed(it, seen)


def test_no_inotify_instance(daemon):
    """In a user namespace of its own, so that nobody else is limited."""
    need_root("a user namespace that may be limited")
    if run("unshare", "--user", "--map-root-user", "test", "-w", "/proc/sys/user/max_inotify_instances").returncode != 0:
        pytest.skip("this machine does not let us make user namespaces")
    few = "echo $0 >/proc/sys/user/max_inotify_instances"
    daemon.command = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{few} && exec "$@"', "0"]
    daemon.start(config({"nop": {}}))
    printed = load(daemon, "scanned", spans=100)
    status = wait_at_rest(daemon, "scanned")
    assert_balanced(status, {"scanned": printed})
    assert any("No inotify instance" in note and "fs.inotify.max_user_instances" in note for note in status["notes"]), status["notes"]
    assert run("nsenter", "--user", "--target", daemon.process.pid, "sh", "-c", few, "16").returncode == 0
    eventually(lambda: not daemon.status()["notes"], "it watches the directory")


def test_a_ring_directory_that_rings_have_filled_before_the_daemon_came(daemon, tmp_path):
    """What rings leave free is enough for a daemon, which could not make its spool otherwise."""
    with Tmpfs(tmp_path / "rings", "8m") as rings:
        daemon.environment["OTELD_DIR"] = str(rings.top)
        with Load(daemon, "early", threads=32, rate=100_000, seconds=60, progress=tmp_path / "progress") as it:
            eventually(lambda: rings.free() < 3 * MIB and sum(it.ended().values()) > 200_000, "the rings are full")
            daemon.start(config({"nop": {}}))
            eventually(lambda: daemon.status()["exporters"][0]["delivered"] > 100_000, "it drains")
            it.kill()
        assert_balanced(wait_at_rest(daemon, "early"))


def test_a_small_ring_directory(daemon, tmp_path):
    """Of the size that a container may be given: the spool is bounded by it, and a daemon that comes late finds room."""
    with Tmpfs(tmp_path / "rings", "4m") as rings:
        daemon.environment["OTELD_DIR"] = str(rings.top)
        with Load(daemon, "early", threads=32, rate=100_000, seconds=60, progress=tmp_path / "progress") as it:
            eventually(lambda: rings.free() < 2.5 * MIB and sum(it.ended().values()) > 20_000, "rings have taken what they may")
            daemon.start(config({"nop": {}}))
            eventually(lambda: daemon.status()["exporters"][0]["delivered"] > 100_000, "it drains")
            it.kill()
        status = wait_at_rest(daemon, "early")
        assert_balanced(status)
        assert status["spool"]["bytes"] == MIB
        assert any("The spool takes 1 MiB at most instead of 64 MiB" in note and "Enlarge" in note for note in status["notes"])
        assert daemon.stop() == 0
    with Tmpfs(tmp_path / "too small", "512k") as rings:
        daemon.environment["OTELD_DIR"] = str(rings.top)
        refused = daemon.run("run", check=False)
        assert refused.returncode == 1 and "enlarge its file system to 4 MiB at least" in refused.stderr, refused.stderr


def test_a_full_ring_directory(daemon, tmp_path):
    """At a program's start, while its rings should grow, and while the spool should."""
    with Receiver("http", tmp_path / "receiver", "hang") as receiver, Tmpfs(tmp_path / "rings", "16m") as rings:
        daemon.environment["OTELD_DIR"] = str(rings.top)
        name, settings = otlp(receiver, timeout="1s")
        daemon.start(config({name: settings}))
        with Load(daemon, "growing", rate=10_000, seconds=60, progress=tmp_path / "progress") as it:
            eventually(lambda: sum(it.ended().values()) > 100, "it records")
            rings.fill()
            with Load(daemon, "late", rate=1000, seconds=60, progress=tmp_path / "late") as late:
                says(daemon, (f"the file system of {rings.top} is full", "make room there, or enlarge it"))
                # It drains into the block of spool that it holds until that is full, then the rings fill up.
                says(daemon, ("the spool is full (as large as the file system lets it be)",), ("growing", "lost"))
                assert sum(late.ended().values()) == 0
                rings.make_room()
                eventually(lambda: sum(late.ended().values()) > 0, "it records once there is room")
                said = late.kill()
            it.kill()
        assert "is full; make room there or enlarge it" in said
        receiver.answer("ok")
        assert_balanced(wait_at_rest(daemon, "growing", "late"))
        seen = seen_by(receiver)
        row, = rows_of(daemon.status(), "growing")
        audit_killed(it, [span for span in seen if not span.unfinished], total([row], "dropped"))
        eventually(lambda: not any("full (" in reason or "is full" in reason for reason in daemon.status()["reasons"]), "it is not full")


def test_short_programs_while_the_daemon_stays_away(daemon, tmp_path):
    """What they leave behind is bounded: older rings give way, and each span that went with them is counted."""
    programs, spans = 300, 7
    with Tmpfs(tmp_path / "rings", "6m") as rings:
        daemon.environment["OTELD_DIR"] = str(rings.top)
        recorded, running = 0, collections.deque()
        for _ in range(programs):
            running.append(Load(daemon, "short", spans=spans))
            if len(running) == 4:
                recorded += running.popleft().finish()["started"]
        recorded += sum(it.finish()["started"] for it in running)
        assert recorded == programs * spans, "each had a ring"
        assert rings.free() > 0
        daemon.start(config({"nop": {}}))
        status = wait_at_rest(daemon, "short")
        assert_balanced(status)
        rows = rows_of(status, "short")
        assert total(rows, "started") == recorded
        delivered = sum(share["delivered"] for share in shares(rows, "nop"))
        assert 0 < delivered and sum(row["dropped"].get("reclaimed", 0) for row in rows) == recorded - delivered
        says(daemon, ("short", "lost", "no oteld drained"))
