"""SIGKILL of the daemon, of both, and in the one place between the spool's commit and the lane's cursor."""
import collections
import random
import signal
import time

import pytest

from conftest import eventually
from lib.backends import Receiver, config, free_port, otlp
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_by

ROUNDS = 10


def in_order(spans):
    """Their keys in the order in which they were sent, without repetitions."""
    return list(dict.fromkeys((span.thread, span.seq) for span in spans))


@pytest.mark.parametrize("protocol", ("http", "grpc"))
def test_no_span_is_missing_after_the_daemon_was_killed_under_load(protocol, daemon, tmp_path):
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    moment = random.Random(seed)
    rounds = ROUNDS if protocol == "http" else 2
    with Receiver(protocol, tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver)
        text = config({name: {**settings, "sending_queue": {"batch": {"flush_timeout": "10ms", "max_size": 500}}}})
        daemon.start(text)
        kills = []  # (requests until then, spans that the ledger had called delivered)
        with Load(daemon, "loaded", threads=4, rate=4000, seconds=300, progress=tmp_path / "progress") as it:
            for _ in range(rounds):
                receiver.wait_for_requests(receiver.count() + 3)
                time.sleep(moment.uniform(0, 0.3))  # The random moment.
                settled = sum(share["delivered"] for share in shares(rows_of(daemon.status(), "loaded"), name))
                daemon.kill()
                kills.append((receiver.count(), settled))
                assert daemon.run("status", check=False).returncode == 3
                daemon.start(text)
            it.kill()
        status = wait_at_rest(daemon, "loaded")
        assert_balanced(status)
        seen = audit_killed(it, seen_by(receiver), total(rows_of(status, "loaded"), "dropped"), once=False)

    counts = collections.Counter((span.thread, span.seq) for span in seen)
    delivered = sum(share["delivered"] for share in shares(rows_of(status, "loaded"), name))
    assert delivered == len(counts), "the ledger counts a span twice, or not at all"
    # What the ledger had called delivered before a kill was not sent again after it.
    for requests, settled in kills:
        before = in_order(span for span in seen if span.request < requests)
        after = {(span.thread, span.seq) for span in seen if span.request >= requests}
        again = after & set(before[:settled])
        assert not again, f"{len(again)} spans that had been settled were sent again"
    # Whole requests are repeated, not more than had been sent and not answered or not yet noted.
    repeated = sum(count - 1 for count in counts.values())
    print(f"{len(counts)} spans, {repeated} of them sent again in {rounds} kills")
    assert repeated <= rounds * 4 * 500


def test_killed_between_the_spools_commit_and_the_lanes_cursor(daemon, tmp_path):
    with Receiver("http", tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver)
        daemon.environment["OTELD_TEST_STOP_AFTER"] = "spool_commit"
        daemon.start(config({name: settings}))
        printed = load(daemon, "stopped", threads=2, spans=2000)
        eventually(lambda: stopped(daemon.process.pid), "the daemon stops itself between commit and cursor")
        assert receiver.requests() == [], "spans were handed on before the cursor was stored"
        daemon.kill()
        del daemon.environment["OTELD_TEST_STOP_AFTER"]
        daemon.start(config({name: settings}))
        status = wait_at_rest(daemon, "stopped")
        assert_balanced(status, {"stopped": printed})
        counts = collections.Counter((span.thread, span.seq) for span in seen_by(receiver))
    assert len(counts) == printed["ended"] == 2000 and set(counts.values()) == {1}


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_both_killed_and_the_daemon_started_later(daemon, ring_dir, tmp_path):
    with Receiver("http", tmp_path / "receiver", "hang") as receiver:
        name, settings = otlp(receiver)
        daemon.start(config({name: settings}))
        with Load(daemon, "both", threads=3, rate=6000, seconds=60, progress=tmp_path / "progress") as it:
            receiver.wait_for_requests(1)  # Something is in the spool, and on its way.
            eventually(lambda: sum(it.ended().values()) > 3000, "spans are in ring and spool")
            it.process.send_signal(signal.SIGKILL)
            daemon.kill()
            it.kill()
        assert list(ring_dir.glob("*.ring")) and (ring_dir / "spool").exists()
        receiver.answer("ok")
        daemon.start(config({name: settings}))
        status = wait_at_rest(daemon, "both")
        assert_balanced(status)
        seen = seen_by(receiver)
        mine = audit_killed(it, seen)
        row, = rows_of(status, "both")
        assert shares([row], name)[0]["delivered"] == len(mine)
        eventually(lambda: not list(ring_dir.glob("*.ring")), "drained rings of the dead are removed")
        eventually(lambda: daemon.status()["spool"]["used_bytes"] == 0, "the spool is empty")


def test_rings_written_without_a_daemon_are_drained_later(daemon, ring_dir, tmp_path):
    printed = load(daemon, "early", threads=2, spans=300)
    assert printed["ended"] == 300
    assert list(ring_dir.glob("*.ring"))
    with Receiver("http", tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver)
        daemon.start(config({name: settings}))
        assert_balanced(wait_at_rest(daemon, "early"), {"early": printed})
        assert len(seen_by(receiver)) == 300
        eventually(lambda: not list(ring_dir.glob("*.ring")), "drained rings of the dead are removed")


def test_what_stayed_in_the_spool_is_delivered_by_the_next_daemon(daemon, tmp_path):
    """A backend that is away, and three daemons that are killed one after the other."""
    port = free_port()
    text = config({"otlp_http": {"endpoint": f"http://127.0.0.1:{port}"}})
    printed = {}
    for number in range(3):
        daemon.start(text)
        printed[f"life {number}"] = load(daemon, f"life {number}", spans=500)
        def drained(service=f"life {number}"):
            rows = rows_of(daemon.status(), service)
            return rows and rows[0]["life"] != "alive" and total(shares(rows, "otlp_http"), "in_daemon") == 500
        eventually(drained, "the spans are in the spool")
        daemon.kill()
    with Receiver("http", tmp_path / "receiver", port=port) as receiver:
        daemon.start(text)
        status = wait_at_rest(daemon, *printed)
        assert_balanced(status, printed)
        assert collections.Counter(span.service for span in seen_by(receiver)) == dict.fromkeys(printed, 500)
