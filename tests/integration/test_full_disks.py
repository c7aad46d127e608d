"""Disks below the exporters that are full, fail, hang or are limited: nothing is lost uncounted, `oteld status` says what is
wrong and what to do about it, and when the obstacle is gone everything that was held is delivered, without a restart.
"""
import signal
import subprocess

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, wait_at_rest
from lib.load import load, seen_in_file
from lib.obstacles import MIB, Disk, Mute, Tmpfs, limit
from lib.written import QUICK, Written, assert_healthy_again, assert_held, says


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
    load(daemon, "large", spans=20_000, rate=10_000)
    says(daemon, ("spans.jsonl reached the file-size limit of the daemon: raise LimitFSIZE=",),
         ("traces.db reached the file-size limit of the daemon: raise LimitFSIZE=",))
    assert_held(daemon, "large", 20_000)
    limit(daemon.process, fsize="unlimited")
    assert_balanced(wait_at_rest(daemon, "large"))
    written.assert_has("large", 20_000)
