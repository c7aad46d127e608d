"""A backend that hangs until the spool is full: draining stops, lanes grow, spans drop and are counted; then it returns."""
from conftest import eventually
from lib.backends import Receiver, config, otlp
from lib.ledger import assert_balanced, rows_of, total, wait_at_rest
from lib.load import Load, seen_by


def test_everything_held_is_delivered_when_the_backend_returns(daemon, ring_dir, tmp_path):
    with Receiver("http", tmp_path / "receiver", "hang") as receiver:
        name, settings = otlp(receiver, timeout="1s")
        daemon.start(config({name: settings}, spool_size="8MiB"))
        with Load(daemon, "flood", threads=2, rate=60000, seconds=60, progress=tmp_path / "progress") as it:
            status = {}

            def full():
                nonlocal status
                status = daemon.status()
                return status["spool"]["full"] and total(rows_of(status, "flood"), "dropped")
            eventually(full, "the spool is full and spans are dropped")
            assert status["verdict"] == "degraded"
            assert any("the spool is full" in reason for reason in status["reasons"]), status["reasons"]
            assert any("hangs or is slow" in reason for reason in status["reasons"]), status["reasons"]
            row, = rows_of(status, "flood")
            assert set(row["dropped"]) == {"ring_full"}
            # Lanes grew to their cap: 128 KiB, 512 KiB, 2 MiB for each thread.
            assert row["ring_bytes"] >= 2 * (2 << 20) and row["in_ring"] > 0
            assert status["spool"]["used_bytes"] <= status["spool"]["bytes"] <= 8 << 20
            assert (ring_dir / "spool").stat().st_size <= 9 << 20  # Its header comes on top.
            held = row["exporters"][0]["in_daemon"]
            assert held > 10000
            it.kill()
        receiver.answer("ok")
        status = wait_at_rest(daemon, "flood")
        assert_balanced(status)
        row, = rows_of(status, "flood")
        share, = row["exporters"]
        seen = [span for span in seen_by(receiver) if not span.unfinished]
        keys = {(span.thread, span.seq) for span in seen}
        assert len(keys) == len(seen), "spans were delivered twice"
        assert share["delivered"] == len(seen) + row["recovered_open"] and share["rejected"] == {}
        # What did not arrive was counted, span by span.
        ended = sum(it.ended().values())
        assert row["lost"] <= it.threads  # Killed in the middle of a drop.
        assert 0 <= len(seen) + total([row], "dropped") + row["lost"] - ended <= it.threads
        assert not status["spool"]["full"] and status["spool"]["used_bytes"] == 0
