"""The client in a real memory cgroup: its rings take a sixteenth of the limit, and never the last of the memory.

At the limit posix_fallocate on tmpfs does not fail: the kernel kills a process of the group. What the client does about
it is client/src/limits.cpp, whose cases with made-up files are in tests/unit/client/obstacles_test.cpp. Here the kernel
does the counting, and the killing if there is any. Where no such group can be made the cases are not run.
"""
import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, wait_at_rest
from lib.load import Load, load

MIB = 1 << 20
LIMIT = 32 * MIB
SHARE = LIMIT // 16

# Holds as much memory as it is told to on its standard input, in bytes, and says when it does.
HOG = """
import sys
held = bytearray()
for line in sys.stdin:
    held = None
    held = bytearray(b"x") * int(line)
    print("held", flush=True)
"""


class Version1:
    """The memory controller at its usual place, which is where the client looks."""

    root = pathlib.Path("/sys/fs/cgroup/memory")
    limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
    kills = "memory.oom_control"

    @staticmethod
    def missing():
        return None if (Version1.root / "memory.limit_in_bytes").exists() else "cgroup v1 has no memory controller here"


class Version2:
    root = pathlib.Path("/sys/fs/cgroup")
    limit, used = "memory.max", "memory.current"
    kills = "memory.events"

    @staticmethod
    def missing():
        try:
            if "memory" not in (Version2.root / "cgroup.controllers").read_text().split():
                return "cgroup v2 has no memory controller here"
            (Version2.root / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            return f"cgroup v2: {error}"
        return None


class Group:
    """A memory cgroup of our own, and the processes that are started in it."""

    numbers = itertools.count()

    def __init__(self, kind, parent=None):
        self.kind = kind
        self.path = (parent.path if parent else kind.root) / f"oteld-test-{os.getpid()}-{next(self.numbers)}"
        self.path.mkdir()

    def set_limit(self, limit):
        (self.path / self.kind.limit).write_text(str(limit))

    def used(self):
        return int((self.path / self.kind.used).read_text())

    def killed(self):
        """How often the kernel has killed a process for want of memory."""
        words = (self.path / self.kind.kills).read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def command(self, *words):
        """The command, started in the group."""
        return ["sh", "-c", f'echo $$ >{self.path}/cgroup.procs && exec "$@"', "sh", *map(str, words)]

    def remove(self):
        for pid in (self.path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        eventually(lambda: not (self.path / "cgroup.procs").read_text(), "the processes of the group are gone")
        self.path.rmdir()


class Hog:
    """A process that holds what is to be held of a group's memory, as the rest of an application does."""

    def __init__(self, group):
        self.group = group
        self.process = subprocess.Popen(group.command(sys.executable, "-c", HOG), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self.hold(0)
        self.bare = group.used()

    def hold(self, size):
        print(size, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "held\n"

    def leave(self, free):
        """Holds all but so many bytes of the limit."""
        self.hold(max(LIMIT - free - self.bare, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def kind(build_dir):
    if os.geteuid() != 0:
        pytest.skip("a memory cgroup needs root")
    if "-fsanitize=" in (build_dir / "CMakeCache.txt").read_text():
        pytest.skip("a sanitizer's own memory is above the limit")
    reasons = []
    for kind in (Version1, Version2):
        reason = kind.missing()
        try:
            if reason is None:
                Group(kind).remove()
                return kind
        except OSError as error:
            reason = f"no group can be made: {error}"
        reasons.append(reason)
    pytest.skip(" and ".join(reasons))


@pytest.fixture(params=["its own limit", "its parent's limit"])
def group(kind, request):
    groups = [Group(kind)]
    groups[0].set_limit(LIMIT)
    if request.param == "its parent's limit":
        groups.append(Group(kind, parent=groups[0]))
    yield groups[-1]
    killed = groups[0].killed() + groups[-1].killed()
    for it in reversed(groups):
        it.remove()
    assert killed == 0, "the kernel had to kill for want of memory"


def ring_bytes(ring_dir):
    total = 0
    for path in ring_dir.glob("*.ring"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def flood(daemon, group, service, **options):
    """More spans than all its rings take, from the group: what `oteld load` printed."""
    return load(daemon, service, command=group.command(daemon.oteld), **{"threads": 4, "spans": 200_000, **options})


def test_rings_take_a_sixteenth_of_the_limit(daemon, group, ring_dir):
    printed = flood(daemon, group, "limited")
    assert printed["started"] == 200_000 and printed["dropped"] > 0
    # A lane of each of the two larger sizes would not fit beside what there is already.
    assert SHARE // 4 < ring_bytes(ring_dir) <= SHARE
    daemon.start(config({"nop": {}}))
    status = wait_at_rest(daemon, "limited")
    assert_balanced(status, {"limited": printed})
    row, = status["applications"]
    assert row["dropped"] == {"ring_full": printed["dropped"]}


def test_threads_without_a_lane_are_counted(daemon, group, ring_dir):
    """The share has no lane for each of so many threads; what `oteld load` says and what the daemon says agree."""
    printed = flood(daemon, group, "crowd", threads=120, spans=24_000, rate=24_000)
    assert printed["started"] == 24_000 == printed["ended"] + printed["dropped"]
    daemon.start(config({"nop": {}}))
    status = wait_at_rest(daemon, "crowd")
    assert_balanced(status, {"crowd": printed})
    row, = status["applications"]
    assert row["dropped"]["no_lane"] > 0 and sum(row["dropped"].values()) == printed["dropped"]


def test_the_cap_holds_while_a_daemon_drains(daemon, group, ring_dir):
    daemon.start(config({"nop": {}}))
    sizes = []
    with Load(daemon, "drained", command=group.command(daemon.oteld), threads=8, spans=2_000_000) as it:
        while it.process.poll() is None:
            sizes.append(ring_bytes(ring_dir))
        printed = it.finish()
    assert printed["started"] == 2_000_000
    assert SHARE // 4 < max(sizes) <= SHARE
    assert_balanced(wait_at_rest(daemon, "drained"), {"drained": printed})


def test_near_the_limit_there_is_no_ring_and_nobody_is_killed(daemon, group, ring_dir):
    """From far to near: rings of up to a full share, then none."""
    def service(free):
        return f"{free >> 20} MiB free"
    sizes = []
    with Hog(group) as hog:
        for free in (16 * MIB, 8 * MIB, 6 * MIB, 5 * MIB, 4 * MIB, 3 * MIB, 2 * MIB):
            hog.leave(free)
            printed = flood(daemon, group, service(free))
            assert hog.process.poll() is None
            sizes.append(ring_bytes(ring_dir))
            assert (printed["started"] == 0) == (sizes[-1] == 0)
            if sizes[-1]:
                assert printed["dropped"] > 0
                # All that was begun is accounted for, and the rings make room for the next ones.
                daemon.start(config({"nop": {}}))
                assert_balanced(wait_at_rest(daemon, service(free)))
                assert daemon.stop() == 0
    assert SHARE // 4 < sizes[0] and max(sizes) <= SHARE, sizes
    # Which lanes grow is chance while there is room. Once there is none, nearer to the limit there is none either.
    none_from = sizes.index(0)
    assert not any(sizes[none_from:]), sizes


def test_memory_that_files_have_is_free_for_rings(daemon, group, ring_dir, tmp_path):
    """A program that has read more than its limit stands at the limit, though nothing is short."""
    data = tmp_path / "data"
    data.write_bytes(b"x" * 2 * LIMIT)
    with open(data, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    subprocess.run(group.command("cat", data), stdout=subprocess.DEVNULL, check=True)
    top = group.path if (group.path / group.kind.limit).read_text().strip() == str(LIMIT) else group.path.parent
    assert int((top / group.kind.used).read_text()) > LIMIT - SHARE, "the page cache does not fill the group"
    printed = flood(daemon, group, "reader")
    assert printed["started"] == 200_000
    assert SHARE // 4 < ring_bytes(ring_dir) <= SHARE


def test_the_kernel_does_kill_at_the_limit(kind, ring_dir):
    """What all this is for: a ring that nobody has asked the group about costs a process its life."""
    group = Group(kind)
    group.set_limit(LIMIT)
    try:
        with Hog(group) as hog:
            hog.leave(4 * MIB)
            subprocess.run(group.command("fallocate", "--length", 16 * MIB, ring_dir / "large"), capture_output=True)
            eventually(lambda: group.killed(), "the kernel has killed")
    finally:
        (ring_dir / "large").unlink(missing_ok=True)
        group.remove()
