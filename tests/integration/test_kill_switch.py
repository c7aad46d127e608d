"""The kill switch: a daemon whose configuration says `recording: false` turns running and new programs off, and on."""
import pytest

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, total, wait_at_rest
from lib.load import Load, load, seen_in_file

WORDS = "recording is turned off by configuration"


@pytest.fixture
def configured(tmp_path):
    out = tmp_path / "spans.jsonl"
    return out, {on: config({"file": {"path": str(out)}}, recording=on) for on in (True, False)}


def started(daemon, service):
    return total(rows_of(daemon.status(), service), "started")


def stands_still(daemon, service):
    """Whether two looks at the status page, of different seconds, find the same number of started spans."""
    before = daemon.status()
    eventually(lambda: daemon.status()["resources"] != before["resources"], "the status page is written anew", 60)
    return total(rows_of(before, service), "started") == started(daemon, service)


def test_a_running_program_is_turned_off_and_on_again(daemon, configured, tmp_path):
    out, text = configured
    daemon.start(text[True])
    assert daemon.status()["recording"] is True and WORDS not in daemon.run("status").stdout
    with Load(daemon, "switched", threads=2, rate=200, seconds=100, progress=tmp_path / "progress") as it:
        eventually(lambda: started(daemon, "switched") > 100, "it records")
        for _ in range(2):
            assert daemon.stop() == 0
            daemon.start(text[False])
            eventually(lambda: stands_still(daemon, "switched"), "it records no more")
            off = started(daemon, "switched")
            status = daemon.status()
            assert status["recording"] is False and status["verdict"] == "healthy", status["reasons"]
            assert_balanced(status)
            assert daemon.stop() == 0
            daemon.start(text[True])
            eventually(lambda off=off: started(daemon, "switched") > off + 100, "it records again")
        it.kill()
    status = wait_at_rest(daemon, "switched")
    assert_balanced(status)
    row, = rows_of(status, "switched")
    assert row["dropped"] == {} and row["unsampled"] == 0, row
    seen = [span for span in seen_in_file(out) if span.service == "switched"]
    assert len({(span.thread, span.seq) for span in seen}) == len(seen) == row["started"] - row["lost"]


def test_a_program_that_starts_meanwhile_makes_no_ring(daemon, configured, ring_dir):
    out, text = configured
    daemon.start(text[False])
    done = daemon.run("load", "--service", "early", "--spans", "1000", "--threads", "2")
    assert "1000 spans were not recorded" in done.stderr, done.stderr
    assert list(ring_dir.glob("*.ring")) == []
    shown = daemon.run("status")
    assert shown.returncode == 0 and WORDS in shown.stdout and "receivers: shm: recording" in shown.stdout, shown.stdout
    with Load(daemon, "patient", rate=500, seconds=100) as it:
        eventually(lambda: any("oteld" in line for line in open(f"/proc/{it.process.pid}/cmdline")), "it runs")
        assert daemon.stop() == 0
        # A daemon that is away has not changed its mind.
        assert daemon.run("load", "--spans", "10", check=False).stderr.count("not recorded") == 1
        daemon.start(text[True])
        eventually(lambda: started(daemon, "patient") > 100, "it records, without a restart")
        it.kill()
    assert_balanced(wait_at_rest(daemon, "patient"))


def test_what_waits_in_rings_is_delivered_although_recording_is_off(daemon, configured):
    out, text = configured
    daemon.start(text[True])
    assert daemon.stop() == 0
    printed = load(daemon, "waiting", spans=500, leave_open=3)
    assert (printed["ended"], printed["open"]) == (500, 3)
    daemon.start(text[False])
    assert_balanced(wait_at_rest(daemon, "waiting"), {"waiting": printed})
    assert len([span for span in seen_in_file(out) if span.service == "waiting"]) == 503
