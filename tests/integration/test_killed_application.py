"""SIGKILL of the application at any moment: what had ended arrives once, what was open arrives as unfinished."""
import random
import time

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_in_file

ROUNDS = 20
THREADS = 4


def test_no_span_of_a_killed_application_is_lost_or_arrives_twice(daemon, tmp_path):
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    moment = random.Random(seed)
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    rounds = []
    for number in range(ROUNDS):
        # At rest, in bursts, and flat out, where a span is nearly always open and lanes overflow.
        rate, attributes = (8000, moment.randrange(12)) if number % 2 else (200_000, moment.randrange(12))
        if number % 5 == 0:
            rate, attributes = 0, 20
        with Load(daemon, f"round {number}", threads=THREADS, progress=tmp_path / f"progress-{number}", seconds=60,
                  rate=rate, attributes=attributes) as it:  # fmt: skip
            eventually(lambda it=it: all(it.ended().get(thread) for thread in range(THREADS)), "each thread has ended a span")
            time.sleep(moment.uniform(0, 400 / (rate or 1_000_000)))  # The random moment.
            it.kill()
        it.flat_out = rate == 0
        rounds.append(it)
    status = wait_at_rest(daemon, *(it.service for it in rounds))
    assert_balanced(status)
    seen = seen_in_file(out)
    unfinished = dropped = ended = 0
    for it in rounds:
        row, = rows_of(status, it.service)
        assert row["life"] == ("crashed" if row["recovered_open"] + row["lost"] else "ended"), row
        assert set(row["dropped"]) <= {"ring_full"} and row["skipped_records"] == 0, row
        mine = audit_killed(it, seen, total([row], "dropped"))
        share, = row["exporters"]
        assert share["delivered"] == len(mine), (row, len(mine))
        assert row["recovered_open"] == sum(span.unfinished for span in mine)
        unfinished += row["recovered_open"]
        if not it.flat_out:
            dropped += total([row], "dropped")
            ended += sum(it.ended().values())
    print(f"{unfinished} spans were open; {ended} had ended that were not written flat out, {dropped} of them found no room")
    assert dropped < ended / 10, "most spans found no room: this test shows nothing about the rest"
    assert unfinished > 0, "no round killed an open span: this test shows nothing about them"
    assert status["rings"]["segments"] == 0 and status["rings"]["quarantined"] == []


def test_spans_left_open_at_the_end_of_a_program_arrive_as_unfinished(daemon, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    printed = load(daemon, "forgetful", threads=THREADS, spans=1000, leave_open=333)
    assert (printed["ended"], printed["open"]) == (1000, 333)
    status = wait_at_rest(daemon, "forgetful")
    assert_balanced(status, {"forgetful": printed})
    assert total(rows_of(status, "forgetful"), "recovered_open") == 333
    seen = seen_in_file(out)
    assert len(seen) == len({(span.thread, span.seq) for span in seen}) == 1333
    assert sum(span.unfinished for span in seen) == 333


def test_open_and_unsampled_spans_of_a_living_application_are_in_the_ledger(daemon, tmp_path):
    daemon.start(config({"file": {"path": str(tmp_path / "spans.jsonl")}}))
    with Load(daemon, "living", rate=500, seconds=60, threads=2, progress=tmp_path / "progress",
              environment={"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}) as it:  # fmt: skip
        def seen():
            rows = rows_of(daemon.status(), "living")
            return rows and rows[0]["unsampled"] > 100 and rows[0]["exporters"][0]["delivered"] > 100 and rows[0]
        row = eventually(seen, "sampled and unsampled spans are counted")
        assert row["life"] == "alive" and row["process"] == it.process.pid
        # One that lives moves on while counters are read: by no more than what it wrote meanwhile.
        assert abs(row["exporters"][0]["balance"]) < 500
        it.kill()
    status = wait_at_rest(daemon, "living")
    assert_balanced(status)
    row, = rows_of(status, "living")
    ended = sum(it.ended().values())
    assert ended <= row["started"] <= ended + it.threads * 1000 and row["unsampled"] > 100
