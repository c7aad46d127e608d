"""sending_queue.num_consumers, from the configuration to the wire: so many requests are under way at once, and no more."""
import pytest

from lib.backends import Receiver, config, otlp
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import load, seen_by

SPANS, BATCH = 2000, 100


def with_consumers(receiver, consumers, **settings):
    """One exporter whose batches are small and always full, and one that shows when all has been drained."""
    kind, where = otlp(receiver, **settings)
    queue = {"batch": {"flush_timeout": "1h", "min_size": BATCH, "max_size": BATCH}}
    if consumers is not None:
        queue["num_consumers"] = consumers
    return kind, config({kind: {**where, "sending_queue": queue}, "nop": {}})


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("consumers", [None, 4, 16])
def test_as_many_requests_as_consumers(daemon, tmp_path, protocol, consumers):
    with Receiver(protocol, tmp_path / "receiver", "hang") as receiver:
        kind, text = with_consumers(receiver, consumers, timeout="10m")
        daemon.start(text)
        printed = load(daemon, "app", spans=SPANS)
        receiver.wait_for_requests(consumers or 1)
        status = wait_at_rest(daemon, "app", exporters=("nop",))
        share, = shares(rows_of(status, "app"), kind)
        assert share["in_daemon"] == SPANS
        assert receiver.count() == (consumers or 1)
        assert sum(request["spans"] for request in receiver.requests()) == BATCH * (consumers or 1)
        # What was under way stays in the spool; the next daemon sends all of it.
        daemon.kill()
        receiver.answer("ok")
        daemon.start(text)
        assert_balanced(wait_at_rest(daemon, "app"), {"app": printed})
        assert len({(span.thread, span.seq) for span in seen_by(receiver)}) == SPANS


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_answers_in_any_order(daemon, tmp_path, protocol):
    """Every other answer is late, some are refusals: what settles before what was sent earlier is counted all the same."""
    answers = ["ok;delay-ms=300", "ok", "ok;delay-ms=150", "partial:7", "ok;delay-ms=80", "refuse:" + (
        "INVALID_ARGUMENT" if protocol == "grpc" else "400"), "ok;delay-ms=200", "ok"]  # fmt: skip
    with Receiver(protocol, tmp_path / "receiver", *answers) as receiver:
        kind, text = with_consumers(receiver, 4)
        daemon.start(text)
        printed = load(daemon, "app", threads=3, spans=SPANS)
        status = wait_at_rest(daemon, "app")
        assert_balanced(status, {"app": printed})
        rows = rows_of(status, "app")
        rejected = {reason: count for share in shares(rows, kind) for reason, count in share["rejected"].items()}
        refused, = (it["spans"] for it in receiver.requests() if it["answer"].startswith("refuse"))
        assert rejected == {"partial": 7, "refused": refused}
        assert total(shares(rows, kind), "delivered") == SPANS - 7 - refused
        assert len({(span.thread, span.seq) for span in seen_by(receiver)}) == SPANS - refused


def test_one_that_waits_to_try_again_does_not_hold_up_the_others(daemon, tmp_path):
    """The first batch is put off for an hour; later ones go out, however small."""
    with Receiver("http", tmp_path / "receiver", "refuse:503;retry-after=3600", "ok") as receiver:
        kind, where = otlp(receiver)
        daemon.start(config({kind: {**where, "sending_queue": {"num_consumers": 2, "batch": {"flush_timeout": "30ms"}},
                                    "retry_on_failure": {"max_interval": "2h", "max_elapsed_time": "0s"}}}))  # fmt: skip
        load(daemon, "put off", spans=5)
        receiver.wait_for_requests(1)
        for number in range(5):
            load(daemon, f"later {number}", spans=5)
            wait_at_rest(daemon, f"later {number}")
        share, = shares(rows_of(daemon.status(), "put off"), kind)
        assert share["in_daemon"] == 5 and share["delivered"] == 0
