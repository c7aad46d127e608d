"""Producers that lie or are broken, while a healthy neighbour records and loses nothing; and daemons that lie.

What there is of this kind besides: tests/unit/shm (geometries, cursors, truncation, one by one), tests/fuzz (any bytes
in a segment), test_across_users.py (other users and their namespaces), test_clocks.py.
OTELD_HOSTILE_TURNS and OTELD_HOSTILE_SECONDS make it long; the seed is printed, and OTELD_HOSTILE_SEED repeats it.
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import pytest

from conftest import WATCHDOG_SECONDS, eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_in_file, times_in_file
from lib.obstacles import Tmpfs, need_root

TURNS = os.environ.get("OTELD_HOSTILE_TURNS", "1")
SECONDS = os.environ.get("OTELD_HOSTILE_SECONDS", "3")
STRANGER = 24007
RATE = 3000  # Of the neighbour: three quarters of a second are a lane of it, five seconds all that it may grow to.


def new_seed():
    seed = os.environ.get("OTELD_HOSTILE_SEED") or str(random.getrandbits(32))
    print(f"seed {seed}: OTELD_HOSTILE_SEED={seed} repeats it")
    return seed


@contextlib.contextmanager
def neighbour(daemon, tmp_path, out):
    """Records at a steady rate all the while, and must have lost nothing and sent nothing twice in the end."""
    with Load(daemon, "neighbour", threads=2, rate=RATE, seconds=600, progress=tmp_path / "progress") as it:
        eventually(lambda: sum(it.ended().values()) > 100, "the neighbour records")
        yield it
        # It is still drained, at the end of it all.
        before = sum(it.ended().values())
        eventually(lambda: delivered(daemon, "neighbour") > before, "the neighbour is drained")
        it.kill()
    status = wait_at_rest(daemon, "neighbour")
    row, = rows_of(status, "neighbour")
    assert_balanced({"applications": [row]})
    assert total([row], "dropped") == 0 and row["skipped_records"] == 0, row
    mine = audit_killed(it, seen_in_file(out, service="neighbour"))
    share, = shares([row], "file")
    assert len(mine) == share["delivered"] > 100


def delivered(daemon, service):
    return sum(share["delivered"] for share in shares(rows_of(daemon.status(), service), "file"))


def names(files):
    return {it["name"] for it in files}


class Program:
    """Speaks in lines, and goes on or ends when it is told to."""

    def __init__(self, daemon, path, *arguments):
        self.process = subprocess.Popen([path, *map(str, arguments)], env=daemon.environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        self._watchdog = threading.Timer(2 * WATCHDOG_SECONDS, self.process.kill)
        self._watchdog.start()

    def lines(self, last):
        """Until one of which last(line) is true."""
        for line in self.process.stdout:
            yield line.strip()
            if last(line.strip()):
                return
        pytest.fail(f"it ended with {self.process.wait()}: {self.process.stderr.read()}")

    def wait_for(self, text):
        return list(self.lines(lambda line: line == text))

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self):
        out, error = self.process.communicate(timeout=WATCHDOG_SECONDS)
        assert self.process.returncode == 0, (out, error)
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()


# --- What lies in rings ---

def test_a_neighbour_of_liars_loses_nothing(daemon, build_dir, ring_dir, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    own = daemon.process.pid
    with neighbour(daemon, tmp_path, out):
        innocent = names_of_rings(ring_dir)
        with Program(daemon, build_dir / "tests/hostile_producer", new_seed(), TURNS) as liar:
            said = [json.loads(line) for line in liar.lines(lambda line: "cut_while_drained" in line)]
            files = {kind: {it["file"] for it in said[:-1] if it["expect"] == kind} for kind in ("quarantined", "refused", "sound")}
            print({kind: len(those) for kind, those in files.items()}, said[-1])
            assert all(len(those) >= int(TURNS) for those in files.values())

            def judged():
                rings = daemon.status()["rings"]
                return names(rings["quarantined"]) == files["quarantined"] and names(rings["refused"]) == files["refused"]
            eventually(judged, "these and only these are quarantined and refused")
            status = daemon.status()
            assert status["pid"] == own and status["verdict"] == "degraded"
            assert not innocent & (names(status["rings"]["quarantined"]) | names(status["rings"]["refused"]))
            eventually(lambda: daemon.status()["rings"]["segments"] == len(names_of_rings(ring_dir) - files["refused"]), "all else is mapped")
            # Every file that was cut was met by at least one fault, or this shows nothing.
            cut = sum("truncation" in it.get("kind", "") or "shrinking" in it.get("kind", "") for it in said)
            assert cut and status["rings"]["bus_errors"] >= cut, (cut, status["rings"])
            text = daemon.run("status", check=False).stdout
            flat = " ".join(text.split())
            assert f"{status['rings']['bus_errors']:,} bus errors survived" in flat, text
            for file in status["rings"]["quarantined"]:
                assert file["why"] and f"DAMAGED {file['name']}: {file['why']}" in flat, file
            for file in status["rings"]["refused"]:
                assert file["why"] and f"REFUSED {file['name']}: {file['why']}" in flat, file
            assert any("truncated" in file["why"] for file in status["rings"]["quarantined"])
            assert any("cursors" in file["why"] for file in status["rings"]["quarantined"])
            liar.finish()
        # With their processes they are gone, but for what never was a ring.
        mapped = files["quarantined"] | files["sound"]
        eventually(lambda: not names_of_rings(ring_dir) & mapped, "rings of dead liars are removed")
        assert files["refused"] <= names_of_rings(ring_dir)
        eventually(lambda: not daemon.status()["rings"]["quarantined"], "nobody is named any more")
    assert daemon.stop() == 0


def names_of_rings(ring_dir):
    return {path.name for path in ring_dir.glob("*.ring")}


# --- What is no ring ---

def ring_of_the_dead(daemon, service, spans):
    """Bytes of a ring with so many spans, of a process that has ended, while no daemon looks."""
    load(daemon, service, spans=spans)
    path, = pathlib.Path(daemon.environment["OTELD_DIR"]).glob("*.ring")
    data = path.read_bytes()
    path.unlink()
    return data


def patched(ring, at, data):
    return ring[:at] + data + ring[at + len(data):]


def as_another_process(ring):
    return patched(ring, 152, os.urandom(16))


MAJOR, MINOR, BOOT_ID, ANCHOR_REALTIME = 8, 10, 136, 192  # shm/layout.hpp: SegmentHeader.


def test_files_that_are_no_rings_and_rings_of_elsewhere(daemon, ring_dir, tmp_path):
    """All of them at once: each is refused with its reason, or drained for what it is, and the neighbour loses nothing."""
    out = tmp_path / "spans.jsonl"
    ring = ring_of_the_dead(daemon, "elsewhere", 50)
    daemon.start(config({"file": {"path": str(out)}}))
    with neighbour(daemon, tmp_path, out):
        mine, = names_of_rings(ring_dir)
        refused = {}

        def name(kind, why):
            refused[f"{kind}.ring"] = why
            return ring_dir / f"{kind}.ring"
        name("symlink", "is a symbolic link; it is not followed").symlink_to(mine)
        name("link to zeroes", "is a symbolic link; it is not followed").symlink_to("/dev/zero")
        name("link to itself", "is a symbolic link; it is not followed").symlink_to("link to itself.ring")
        os.mkfifo(name("fifo", "is not a regular file"))
        name("directory", "directory").mkdir()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(name("socket", "socket")))
        try:
            os.mknod(ring_dir / "device.ring", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            refused["device.ring"] = "device.ring"
        except PermissionError:
            print("this machine does not let us make device nodes: left out")
        name("empty", "is not a ring file").write_bytes(b"")
        name("random", "is not a ring file").write_bytes(os.urandom(1 << 20))
        name("half", "a size that is not its file's").write_bytes(ring[: len(ring) // 2])
        put(ring_dir, name("future", "ring layout 7."), patched(as_another_process(ring), MAJOR, struct.pack("<H", 7)))
        with open(name("growing", "is not a ring file"), "ab", buffering=0) as growing:
            # Rings all the same.
            put(ring_dir, ring_dir / "newer.ring", patched(as_another_process(ring), MINOR, struct.pack("<H", 999)))
            boot = patched(as_another_process(ring), BOOT_ID, os.urandom(16))
            long_ago = int((time.time() - 1e6) * 1e9)
            put(ring_dir, ring_dir / "boot.ring", patched(boot, ANCHOR_REALTIME, struct.pack("<Q", long_ago)))

            def judged():
                growing.write(os.urandom(4096))
                listed = {it["name"]: it["why"] for it in daemon.status()["rings"]["refused"]}
                return set(listed) == set(refused) and listed
            listed = eventually(judged, "what is no ring is refused, and only that")
            for file, why in refused.items():
                assert why in listed[file], (file, listed[file])
            text = " ".join(daemon.run("status", check=False).stdout.split())
            for file, why in listed.items():
                assert f"REFUSED {file}: {why}" in text
            assert not daemon.status()["rings"]["quarantined"]
            eventually(lambda: delivered(daemon, "elsewhere") == 100, "two of the rings from elsewhere are drained")
            eventually(lambda: not (ring_dir / "boot.ring").exists() and not (ring_dir / "newer.ring").exists(), "and removed")
        # What another boot recorded has the times of then.
        starts = [at for at, _ in times_in_file(out, "elsewhere")]
        assert sum(long_ago <= at < long_ago + 600 * 10**9 for at in starts) == 50
        assert sum(abs(at - time.time_ns()) < 600 * 10**9 for at in starts) == 50
    assert daemon.stop() == 0


def put(ring_dir, path, data, owner=-1):
    """Complete before it has its name, as a client does it."""
    part = ring_dir / "part"
    part.write_bytes(data)
    os.chown(part, owner, owner)
    part.rename(path)


def test_ten_thousand_files(daemon, ring_dir, tmp_path):
    """Nobody waits for them: the neighbour's lanes hold a few seconds of its spans."""
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    with neighbour(daemon, tmp_path, out):
        for number in range(10_000):
            (ring_dir / f"junk {number}.ring").write_bytes(b"junk" * (number % 3))

        def counted():
            refused = daemon.status()["rings"]["refused"]
            return len(refused) == 65 and refused[-1]["name"] == f"({10_000 - 64} more)"
        eventually(counted, "64 are named, the others counted")
        # Found among them, at once.
        printed = load(daemon, "late", spans=100)
        eventually(lambda: delivered(daemon, "late") == printed["ended"] == 100, "a program that came later is drained")
        text = daemon.run("status", check=False).stdout
        assert "9,936 more" in text or "9936 more" in text
        for number in range(10_000):
            (ring_dir / f"junk {number}.ring").unlink()
    daemon.kill()
    daemon.start(config({"file": {"path": str(out)}}))
    eventually(lambda: not daemon.status()["rings"]["refused"], "nothing is left of them")
    assert daemon.stop() == 0


def test_files_that_a_stranger_put_in_the_daemons_way(daemon, ring_dir, tmp_path):
    """Of the names that are the daemon's none is followed, opened or believed; programs do not believe them either."""
    need_root("files of another user")
    ring_dir.chmod(0o3777)
    strangers = ring_of_the_dead(daemon, "a stranger's", 30)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 1000)
    # As good as a daemon's own: they say that recording is off, and hold spans.
    with Load(daemon, "planted", rate=1000, seconds=60) as it:
        daemon.start(config({"nop": {"sending_queue": {"batch": {"flush_timeout": "1h"}}}}))

        def held():
            return any(share["in_daemon"] for share in shares(rows_of(daemon.status(), "planted"), "nop"))
        eventually(held, "its spool has spans")
        it.kill()
    daemon.kill()
    daemon.start(config({"nop": {"sending_queue": {"batch": {"flush_timeout": "1h"}}}}, recording=False))
    daemon.kill()
    for ring in ring_dir.glob("*.ring"):
        ring.unlink()
    planted = {}
    for name in ("control", "status", "spool"):
        os.chown(ring_dir / name, STRANGER, STRANGER)
        planted[name] = (ring_dir / name).stat().st_ino
    (ring_dir / "lock").unlink()
    (ring_dir / "lock").symlink_to(victim)
    os.chown(ring_dir / "lock", STRANGER, STRANGER, follow_symlinks=False)
    early = load(daemon, "early", spans=70)
    assert early["ended"] == 70
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    with neighbour(daemon, tmp_path, out):
        eventually(lambda: delivered(daemon, "early") == 70, "what was recorded before is drained")
        for name, inode in planted.items():
            info = (ring_dir / name).stat()
            assert info.st_uid == 0 and info.st_ino != inode, name
        assert not rows_of(daemon.status(), "planted")
        assert (ring_dir / "lock").is_file() and not (ring_dir / "lock").is_symlink()
        assert victim.read_bytes() == b"precious" * 1000
        # A ring of a stranger is the stranger's.
        put(ring_dir, ring_dir / "strangers.ring", strangers, STRANGER)
        eventually(lambda: delivered(daemon, "a stranger's") == 30, "a stranger's ring is drained as well")
        assert {row["uid"] for row in rows_of(daemon.status(), "a stranger's")} == {STRANGER}
    assert daemon.stop() == 0


# --- The dead who are not ---

def test_a_process_that_was_taken_for_dead_goes_on(daemon, build_dir, ring_dir, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    with neighbour(daemon, tmp_path, out):
        others = names_of_rings(ring_dir)
        with Program(daemon, build_dir / "tests/declared_dead", "load", "--service", "risen", "--progress", "-") as it:
            it.wait_for("lost")

            def buried():
                row, = rows_of(daemon.status(), "risen") or [None]
                return row and row["life"] != "alive" and row["recovered_open"] == 1 and names_of_rings(ring_dir) == others
            eventually(buried, "it is taken for dead, and its open span recovered")
            it.go_on()
            it.wait_for("back")

            def back():
                row, = rows_of(daemon.status(), "risen")
                return row["life"] == "alive" and row["open"] == 1 and row["in_ring"] == 0 and delivered(daemon, "risen") == 31
            eventually(back, "it lives and is drained again")
            it.go_on()
            it.finish()
        status = wait_at_rest(daemon, "risen")
        row, = rows_of(status, "risen")
        assert_balanced({"applications": [row]})
        assert row["dropped"] == {"orphaned": 1} and row["recovered_open"] == 1, row
        seen = seen_in_file(out, service="risen")
        wanted = {(thread, seq) for thread in range(3) for seq in range(1, 12)} - {(1, 11)}
        assert sorted((span.thread, span.seq) for span in seen) == sorted(wanted)
        assert [(span.thread, span.seq) for span in seen if span.unfinished] == [(0, 11)]
    assert daemon.stop() == 0


def test_a_stopped_process_is_not_dead(daemon, ring_dir, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    with neighbour(daemon, tmp_path, out) as it:
        rings = names_of_rings(ring_dir)
        it.process.send_signal(signal.SIGSTOP)
        # Others die meanwhile, and are found to be dead: each time all processes are looked at, twice.
        for number in range(5):
            load(daemon, f"dies {number}", spans=10)
            eventually(lambda: names_of_rings(ring_dir) == rings, "the rings of the dead are removed")
        row, = eventually(lambda: rows_of(daemon.status(), "dies 4") and rows_of(daemon.status(), "neighbour"), "status says so")
        assert row["life"] == "alive" and row["recovered_open"] == 0
        it.process.send_signal(signal.SIGCONT)
    assert daemon.stop() == 0


# --- A daemon that lies ---

@pytest.mark.parametrize("what", ("daemon", "all"))
def test_a_client_of_a_scribbling_daemon(what, build_dir, tmp_path, environment):
    """It does not crash, hang, or write where it should not; what it records is another matter."""
    with Tmpfs(tmp_path / "rings", "256m") if os.geteuid() == 0 else contextlib.nullcontext() as rings:
        if rings:
            environment["OTELD_DIR"] = str(rings.top)
        done = subprocess.run([build_dir / "tests/scribbling_daemon", new_seed(), SECONDS, what], env=environment,
                              capture_output=True, text=True, timeout=int(SECONDS) + 120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["segments"] >= 1 and figures["scribbles"] > 10_000 and figures["spans"] > 1000
    assert figures["mappings"] < 5000, "mappings pile up"
