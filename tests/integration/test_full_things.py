"""What fills up or is limited: nothing is lost uncounted, `oteld status` says what is wrong and what to do about it, and
when the obstacle is gone everything that was held is delivered, without a restart.

What else there is of this kind: disks below the exporters (test_full_disks.py), a spool that is full (test_full_spool.py),
memory limits (test_memory_cgroup.py), very many threads and processes (test_many.py), what a client alone meets
(tests/unit/client/obstacles_test.cpp).
"""
import collections
import contextlib
import os
import pathlib

import pytest

from conftest import eventually
from lib.backends import Receiver, config, otlp
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_by, seen_in_file
from lib.obstacles import MIB, Tmpfs, limit, need_root, run
from lib.written import Written, assert_healthy_again, says


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


@pytest.mark.parametrize("kind", ("instance", "watch"))
def test_no_inotify(kind, daemon):
    """In a user namespace of its own, so that nobody else is limited."""
    need_root("a user namespace that may be limited")
    limits = f"/proc/sys/user/max_inotify_{kind}{'es' if kind == 'watch' else 's'}"
    if run("unshare", "--user", "--map-root-user", "test", "-w", limits).returncode != 0:
        pytest.skip("this machine does not let us make user namespaces")
    few = f"echo $0 >{limits}"
    daemon.command = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{few} && exec "$@"', "0"]
    daemon.start(config({"nop": {}}))
    printed = load(daemon, "scanned", spans=100)
    status = wait_at_rest(daemon, "scanned")
    assert_balanced(status, {"scanned": printed})
    note, = status["notes"]
    assert f"No inotify {kind} is to be had" in note, note
    assert "fs.inotify." + pathlib.Path(limits).name.replace("max_inotify_", "max_user_") in note, note
    assert run("nsenter", "--user", "--target", daemon.process.pid, "sh", "-c", few, "16").returncode == 0
    eventually(lambda: not daemon.status()["notes"], "it watches the directory")


def has_sanitizer(daemon):
    return "san.so" in run("ldd", daemon.oteld).stdout


def test_an_address_space_limit(daemon, ring_dir, tmp_path):
    """Rings that cannot be mapped wait; what delivers has room all the same; others are mapped as some is given back."""
    if has_sanitizer(daemon):
        pytest.skip("a sanitizer takes all of the address space")
    written = Written(daemon, tmp_path)
    daemon.start(written.config())
    load(daemon, "first", spans=100)
    wait_at_rest(daemon, "first")
    # Room for a few programs' rings, 400 KiB each: a third, or 128 MiB, is kept.
    used = int(pathlib.Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    few = used + 4 * MIB
    limit(daemon.process, **{"as": few * 3 // 2 if few < 256 * MIB else few + 128 * MIB})
    with contextlib.ExitStack() as running:
        held = [running.enter_context(Load(daemon, f"held {number}", rate=20, seconds=60, progress=tmp_path / f"progress {number}"))
                for number in range(30)]
        eventually(lambda: len(list(ring_dir.glob("*.ring"))) == len(held), "all programs have their rings")
        status = says(daemon, ("not drained: Cannot map", "Raise LimitAS=", "more)"))
        assert 0 < status["rings"]["segments"] < 30
        assert_balanced(status)
        eventually(lambda: all(exporter["delivered"] > 100 for exporter in daemon.status()["exporters"]), "both exporters deliver")
        known = len(status["applications"])
        for it in held[:20]:
            it.kill()
        eventually(lambda: len(daemon.status()["applications"]) > known, "what is given back is used for others")
        limit(daemon.process, **{"as": "unlimited"})
        eventually(lambda: not daemon.status()["rings"]["refused"], "all rings are mapped")
        for it in held[20:]:
            it.kill()
        assert_balanced(wait_at_rest(daemon, *(it.service for it in held)))
        seen = seen_in_file(written.lines)
        for it in held:
            audit_killed(it, seen)
    assert_healthy_again(daemon)


def test_a_limit_on_the_daemons_own_memory(daemon, tmp_path):
    """A batch that finds none waits; where the drain finds none the daemon ends with a sentence, and the next one finds
    everything."""
    if has_sanitizer(daemon):
        pytest.skip("the address sanitizer's memory is the daemon's own")
    written = Written(daemon, tmp_path)
    daemon.start(written.config())
    load(daemon, "first", spans=100)
    wait_at_rest(daemon, "first")
    limit(daemon.process, data=1)
    with Load(daemon, "limited", threads=4, rate=20_000, seconds=600, progress=tmp_path / "progress", attributes=20) as it:
        def ended():
            return daemon.process.poll() is not None

        def waits():
            errors = [exporter["last_error"] for exporter in daemon.status()["exporters"]]
            return any("the daemon is out of memory: raise LimitDATA=" in error for error in errors)
        eventually(lambda: ended() or waits(), "it meets the limit")
        if ended():
            assert daemon.process.returncode == os.EX_OSERR
            assert "oteld: out of memory. Raise LimitDATA=" in daemon.log_text()
            looked = daemon.run("status", check=False)
            assert looked.returncode == 3 and "see its log" in " ".join(looked.stdout.split())
            daemon.start(written.config())
        else:
            limit(daemon.process, data="unlimited")
        it.kill()
    status = wait_at_rest(daemon, "limited")
    assert_balanced(status)
    dropped = total(rows_of(status, "limited"), "dropped")
    audit_killed(it, seen_in_file(written.lines, service="limited"), dropped, once=False)


def start_behind(daemon, rings, tmp_path, left, ended):
    """Starts the daemon when rings have taken what they may; returns its status when all is drained."""
    daemon.environment["OTELD_DIR"] = str(rings.top)
    with Load(daemon, "early", threads=32, rate=100_000, seconds=60, progress=tmp_path / "progress") as it:
        eventually(lambda: rings.free() < left and sum(it.ended().values()) > ended, "rings have taken what they may")
        daemon.start(config({"nop": {}}))
        eventually(lambda: daemon.status()["exporters"][0]["delivered"] > 100_000, "it drains")
        it.kill()
    status = wait_at_rest(daemon, "early")
    assert_balanced(status)
    return status


def test_a_ring_directory_that_rings_have_filled_before_the_daemon_came(daemon, tmp_path):
    """What rings leave free is enough for a daemon, which could not make its spool otherwise."""
    with Tmpfs(tmp_path / "rings", "8m") as rings:
        start_behind(daemon, rings, tmp_path, left=3 * MIB, ended=200_000)


def test_a_small_ring_directory(daemon, tmp_path):
    """Of the size that a container may be given: the spool is bounded by it, and a daemon that comes late finds room."""
    with Tmpfs(tmp_path / "rings", "4m") as rings:
        status = start_behind(daemon, rings, tmp_path, left=2.5 * MIB, ended=20_000)
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
    programs, spans = 100, 7
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
