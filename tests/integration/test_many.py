"""Very many threads, and very many processes: everyone records, within the bounds, and everything is given back."""
import collections
import os

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, wait_at_rest
from lib.load import Load

MIB = 1 << 20
PROCESSES = int(os.environ.get("OTELD_MANY_PROCESSES", "300"))  # 5000: about two minutes.


def files(ring_dir):
    return list(ring_dir.glob("*.ring"))


def test_two_thousand_threads_have_a_lane_each_within_64_mib(daemon, ring_dir):
    daemon.start(config({"nop": {}}))
    sizes = []
    with Load(daemon, "threads", threads=2000, spans=40_000, rate=10_000) as it:
        while it.process.poll() is None:
            sizes.append(sum(path.stat().st_size for path in files(ring_dir)))
        printed = it.finish()
    assert printed == {"started": 40_000, "ended": 40_000, "dropped": 0, "open": 0, "seconds": printed["seconds"]}
    assert 8 * MIB < max(sizes) <= 64 * MIB
    assert_balanced(wait_at_rest(daemon, "threads"), {"threads": printed})
    eventually(lambda: not files(ring_dir), "rings of a process that has ended are removed")


def test_thousands_of_processes_come_and_go(daemon, ring_dir):
    """Short programs, twenty at a time: all their spans arrive, and what they leave behind does not pile up."""
    daemon.start(config({"nop": {}}))
    descriptors_before = descriptors(daemon)
    running = collections.deque()
    most_files = 0
    for number in range(PROCESSES):
        running.append(Load(daemon, "short", spans=7))
        if len(running) == 20:
            assert running.popleft().finish()["ended"] == 7
            most_files = max(most_files, len(files(ring_dir)))
    for it in running:
        it.finish()
    eventually(lambda: not files(ring_dir), "rings of processes that have ended are removed")
    totals = eventually(lambda: delivered(daemon) == 7 * PROCESSES and daemon.status(), "all spans are delivered")
    assert most_files < 20 * 10, "the daemon does not keep up with removing rings"
    assert len(totals["applications"]) <= 256, "rows of ended processes pile up"
    assert descriptors(daemon) <= descriptors_before + 2


def delivered(daemon):
    exporter, = daemon.status()["exporters"]
    return exporter["delivered"]


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
