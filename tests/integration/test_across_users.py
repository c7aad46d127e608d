"""Applications and daemon that share nothing but a tmpfs directory: other namespaces, other users."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import Daemon, eventually
from lib.backends import Receiver, config, otlp
from lib.ledger import assert_balanced, rows_of, wait_at_rest
from lib.load import Load, audit_killed, load, seen_by, seen_in_file

DAEMON_ID, USERS = 24000, (24001, 24002)


@pytest.fixture
def open_dir(oteld, build_dir):
    """A directory that every user may enter, with a copy of the binary (the build may lie where they may not go)."""
    if os.geteuid() != 0:
        pytest.skip("other users and their namespaces need root")
    path = pathlib.Path(tempfile.mkdtemp(prefix="oteld-users-"))
    path.chmod(0o755)
    shutil.copy(oteld, path / "oteld")
    shutil.copytree(build_dir / "modules", path / "modules")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def wrapper(directory, name, script):
    """An `oteld` that is started by a script of ours."""
    path = directory / name
    path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
    path.chmod(0o755)
    return path


# --- Namespaces ---

# What the process sees of the file system is its own, but for the ring directory and one for what it writes down.
APART = """exec unshare --user --map-root-user --pid --mount --fork --kill-child --mount-proc sh -ec '
    mount --bind {home} /opt; mount --bind {rings} /mnt
    for hidden in /tmp /dev/shm /run /var/tmp; do mount -t tmpfs none $hidden; done
    mkdir /run/rings; mount --move /mnt /run/rings
    export OTELD_DIR=/run/rings OTELD_STATE_DIR=/opt/state; unset NOTIFY_SOCKET
    exec /opt/oteld "$@"' sh "$@" """


@pytest.fixture
def apart(open_dir, ring_dir):
    (open_dir / "state").mkdir()
    return wrapper(open_dir, "apart", APART.format(home=open_dir, rings=ring_dir))


def inner(process):
    """The process id, as seen from here, of the first process in the namespaces that `unshare` made."""
    try:
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        child = int(children[0])
        return child if os.readlink(f"/proc/{child}/exe").endswith("/oteld") else None
    except (IndexError, FileNotFoundError):
        return None


def namespaces(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "mnt", "user")}


def test_an_application_in_other_namespaces(daemon, open_dir, apart, ring_dir):
    if subprocess.run([apart, "--version"], env=daemon.environment, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us make user namespaces")
    out = open_dir / "spans.jsonl"
    (open_dir / "oteld.yaml").write_text(config({"file": {"path": "/opt/spans.jsonl"}}))
    with open(open_dir / "log", "wb") as log:
        served = subprocess.Popen([apart, "run", "--config", "/opt/oteld.yaml"], env=daemon.environment, stdout=log, stderr=log)
    try:
        eventually(lambda: served.poll() is not None or daemon.run("status", check=False).returncode == 0, "the daemon is up")
        assert served.poll() is None, (open_dir / "log").read_text()
        progress = open_dir / "progress"
        with Load(daemon, "elsewhere", command=[str(apart)], threads=2, rate=2000, seconds=60, progress="/opt/progress") as it:
            it.progress = progress
            theirs = eventually(lambda: inner(it.process), "the application runs")
            ours = inner(served)
            here, application, drainer = map(namespaces, ("self", theirs, ours))
            for kind in here:
                assert len({here[kind], application[kind], drainer[kind]}) == 3, (kind, here, application, drainer)
            # Both call themselves process 1.
            assert all("NSpid:\t" in text and text.split("NSpid:\t")[1].split("\n")[0].split()[-1] == "1" for text in
                       (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in (theirs, ours)))
            eventually(lambda: sum(it.ended().values()) > 1000, "it writes")
            row = eventually(lambda: rows_of(daemon.status(), "elsewhere"), "the daemon has seen it")[0]
            assert row["life"] == "alive" and row["process"] == 1
            # It lives on as long as no one is wrong about its death; then it dies, alone.
            os.kill(theirs, signal.SIGKILL)
            it.process.communicate()
        status = wait_at_rest(daemon, "elsewhere")
        assert_balanced(status)
        row, = rows_of(status, "elsewhere")
        assert row["life"] == ("crashed" if row["recovered_open"] + row["lost"] else "ended") and row["dropped"] == {}
        assert len(audit_killed(it, seen_in_file(out))) == row["exporters"][0]["delivered"]
        eventually(lambda: not list(ring_dir.glob("*.ring")), "the drained ring of the dead is removed")
    finally:
        child = inner(served)
        if child:
            os.kill(child, signal.SIGTERM)
        assert served.wait(60) == 0


# --- Users ---

def as_user(uid, *command, **options):
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *map(str, command)],
                          capture_output=True, text=True, errors="replace", timeout=60, **options)  # fmt: skip


class OpenDaemon(Daemon):
    """Its notify socket takes messages of every user, as systemd's does."""

    def start(self, *arguments, **options):
        mask = os.umask(0)
        try:
            return super().start(*arguments, **options)
        finally:
            os.umask(mask)


@pytest.fixture
def shared(open_dir, ring_dir, environment):
    """The ring directory as run-oteld.mount makes it, and an unprivileged daemon."""
    os.chown(ring_dir, DAEMON_ID, DAEMON_ID)
    ring_dir.chmod(0o3777)
    home = open_dir / "daemon"
    home.mkdir()
    os.chown(home, DAEMON_ID, DAEMON_ID)
    switch = f"--reuid={DAEMON_ID} --regid={DAEMON_ID} --clear-groups --bounding-set=-all"
    # No capability and no other group: what it may do, it may do as the directory's owner and group.
    binary = wrapper(open_dir, "unprivileged", f'umask 022; exec setpriv {switch} --no-new-privs {open_dir}/oteld "$@"')
    it = OpenDaemon(binary, {**environment, "OTELD_STATE_DIR": str(home)}, home)
    yield it
    it.close()


def applications(shared, open_dir, **options):
    """One of each user, each `oteld load` with a service of the user's number."""
    for uid in USERS:
        command = wrapper(open_dir, f"as-{uid}", f'exec setpriv --reuid={uid} --regid={uid} --clear-groups {open_dir}/oteld "$@"')
        yield uid, Load(shared, f"user {uid}", command=[str(command)], **options)


def test_an_unprivileged_daemon_drains_every_user_and_no_user_reads_anothers_spans(shared, open_dir, ring_dir):
    out = open_dir / "daemon" / "spans.jsonl"
    shared.start(config({"file": {"path": str(out)}}))
    status_text = pathlib.Path(f"/proc/{shared.process.pid}/status").read_text()
    assert f"Uid:\t{DAEMON_ID}\t{DAEMON_ID}" in status_text and "CapEff:\t0000000000000000" in status_text
    running = dict(applications(shared, open_dir, rate=500, seconds=60, threads=1))
    try:
        def rings():
            by_owner = {}
            for path in ring_dir.glob("*.ring"):
                by_owner.setdefault(path.stat().st_uid, []).append(path)
            return by_owner if set(by_owner) == set(USERS) else None
        by_owner = eventually(rings, "each user has a ring")
        # Owned by their users, of the daemon's group, and nobody else's.
        for uid, paths in by_owner.items():
            for path in paths:
                info = path.stat()
                assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (uid, DAEMON_ID, 0o660)
            assert {os.stat(f"/proc/{running[uid].process.pid}").st_uid} == {uid}
        # The other user reads neither ring nor spool; the owner reads its own, so the check can fail.
        (mine, *_), (theirs, *_) = by_owner[USERS[0]], by_owner[USERS[1]]
        assert as_user(USERS[0], "cat", mine).returncode == 0
        for secret in (theirs, ring_dir / "spool"):
            for attempt in (["cat", secret], ["cp", "/dev/null", secret], ["rm", "-f", secret], ["mv", secret, ring_dir / "mine"]):
                assert as_user(USERS[0], *attempt).returncode != 0, f"a user could {attempt}"
        assert as_user(USERS[0], open_dir / "oteld", "rings", "--spans", theirs, env=shared.environment).returncode != 0
        # Status is for everyone and holds no span.
        text = as_user(USERS[1], open_dir / "oteld", "status", "--json", env=shared.environment)
        assert text.returncode == 0 and "load.seq" not in text.stdout

        def seen():
            rows = {row["service"]: row for row in shared.status()["applications"]}
            return rows if all(f"user {uid}" in rows and rows[f"user {uid}"]["exporters"][0]["delivered"] for uid in USERS) else None
        rows = eventually(seen, "spans of each user are delivered")
        assert {row["uid"] for row in rows.values()} == set(USERS)
    finally:
        for it in running.values():
            it.process.kill()
            it.process.communicate()
    status = wait_at_rest(shared, *(f"user {uid}" for uid in USERS))
    assert_balanced(status)
    assert sum(row["exporters"][0]["delivered"] for row in status["applications"]) == len(seen_in_file(out))
    # The directory's owner may remove what others own, sticky or not.
    eventually(lambda: not list(ring_dir.glob("*.ring")), "rings of the dead of all users are removed")
    assert shared.stop() == 0


def test_a_user_with_too_many_spans_in_the_spool_stops_nobody_else(shared, open_dir, tmp_path):
    greedy, modest = "greedy", "modest"

    def as_(uid):
        return wrapper(open_dir, f"as-{uid}", f'exec setpriv --reuid={uid} --regid={uid} --clear-groups {open_dir}/oteld "$@"')
    with Receiver("http", tmp_path / "receiver", "refuse:503") as receiver:
        kind, settings = otlp(receiver)
        shared.start(config({kind: settings}, user_spans_max=1000))
        printed = {greedy: load(shared, greedy, command=[str(as_(USERS[0]))], spans=4000)}

        def named():
            return {it["name"] for it in shared.status()["rings"]["refused"]}
        eventually(lambda: named() == {f"(all of user {USERS[0]})"}, "the user is named")
        printed[modest] = load(shared, modest, command=[str(as_(USERS[1]))], spans=500)

        def waiting():
            return [row["exporters"][0]["in_daemon"] for row in rows_of(shared.status(), modest)]
        eventually(lambda: waiting() == [500], "all of the other user's spans are drained")
        status = shared.status()
        assert named() == {f"(all of user {USERS[0]})"}
        assert status["verdict"] == "degraded" and any(f"user {USERS[0]}" in reason for reason in status["reasons"])
        row, = rows_of(status, greedy)
        # A step takes up to a thousand: the last one began below the cap.
        assert 1000 <= row["exporters"][0]["in_daemon"] < 2000
        assert row["in_ring"] == 4000 - row["exporters"][0]["in_daemon"]
        assert_balanced(status, printed)
        receiver.answer("ok")
        status = wait_at_rest(shared, greedy, modest)
        assert_balanced(status, printed)
        assert len(seen_by(receiver)) == 4500
        eventually(lambda: not named(), "nobody is named any more")
    assert shared.stop() == 0


def test_a_directory_without_setgid_says_what_that_means(shared, open_dir, ring_dir):
    """Files get mode 0600 there, so an unprivileged daemon cannot read other users' rings, and says so."""
    ring_dir.chmod(0o1777)
    shared.start(config({"nop": {}}))
    command = wrapper(open_dir, "user", f'exec setpriv --reuid={USERS[0]} --regid={USERS[0]} --clear-groups {open_dir}/oteld "$@"')
    load(shared, "unreadable", command=[str(command)], spans=10)
    path, = ring_dir.glob("*.ring")
    assert path.stat().st_mode & 0o777 == 0o600

    def refused():
        status = shared.status()
        return status if any(path.name == it["name"] for it in status["rings"]["refused"]) else None
    status = eventually(refused, "the ring is named as refused")
    assert not status["directory"]["setgid"] and status["directory"]["consequences"]
    assert status["verdict"] == "degraded"
