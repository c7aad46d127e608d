"""The container image: built from systemd/Dockerfile on a minimal Debian 12, run as its unprivileged user, shared
with an application in a container of its own that has only the ring directory in common with it."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT, eventually

sys.path.insert(0, str(ROOT / "tests/programs"))
from dockerfile import DEBIAN_ROOT, Image, first_process, instructions, namespace  # noqa: E402

DOCKERFILE = ROOT / "systemd/Dockerfile"


@pytest.fixture(scope="module")
def image(build_dir, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("building a root file system needs root")
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed here")
    if (build_dir / "CMakeCache.txt").read_text().find("-fsanitize=") >= 0:
        pytest.skip("a binary with a sanitizer needs libraries that the image does not have")
    stage = tmp_path_factory.mktemp("stage")
    subprocess.run(["cmake", "--install", build_dir, "--prefix", stage / "usr"], check=True, capture_output=True)
    root = tmp_path_factory.mktemp("image") / "root"
    made = subprocess.run([DEBIAN_ROOT, "make", root], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no minimal Debian 12 to be had here: {made.stderr.strip().splitlines()[-1]}")
    # Other users must be able to enter the root, as they can enter an image.
    for directory in [root, *root.parents][:4]:
        directory.chmod(0o755)
    yield Image(root, "debian-12-made-here").build(DOCKERFILE, stage)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def rings(ring_dir):
    """As an in-memory emptyDir with fsGroup: the group is the daemon's, and files inherit it."""
    os.chown(ring_dir, 0, 65532)
    ring_dir.chmod(0o2777)
    return ring_dir


def status(image, inside):
    """As the pod's startup probe asks: in the container, as its user. None: not up yet."""
    done = image.execute(inside, "oteld", "status", "--json")
    return json.loads(done.stdout) if done.returncode in (0, 1) else None


def test_the_image_says_what_is_needed(image):
    assert image.base == "debian-12-made-here"
    assert image.user == "65532:65532" and image.stop_signal == "SIGTERM"
    assert image.entrypoint == ["/usr/bin/oteld"] and image.command == ["run"]
    assert image.environment["OTELD_DIR"] == "/run/oteld"


def test_no_library_is_missing(image):
    for file in [image.root / "usr/bin/oteld", *(image.root / "usr/lib/oteld").glob("*.so")]:
        inside = "/" + str(file.relative_to(image.root))
        done = subprocess.run([DEBIAN_ROOT, "enter", image.root, "ldd", inside], capture_output=True, text=True)
        assert done.returncode == 0 and "not found" not in done.stdout, done.stdout


def test_a_sidecar_drains_an_application_in_another_container(image, rings, tmp_path):
    log = open(tmp_path / "oteld.log", "wb")
    daemon = image.start({"/run/oteld": rings}, stdout=log, stderr=log)
    try:
        inside = eventually(lambda: first_process(daemon), "the container has a process")
        eventually(lambda: daemon.poll() is not None or status(image, inside), "the daemon in the container is up")
        assert daemon.poll() is None, (tmp_path / "oteld.log").read_text()

        application = image.start({"/run/oteld": rings}, "load", "--spans", "500", "--rate", "500", "--service", "shop",
                                  user="4321:4321", stdout=subprocess.PIPE, text=True)
        theirs = eventually(lambda: first_process(application), "the application runs")
        # They really are apart: other processes, other users, other file systems.
        for kind in ("pid", "mnt", "ipc"):
            assert len({namespace(pid, kind) for pid in (inside, theirs, "self")}) == 3
        owner = eventually(lambda: {path.stat().st_uid for path in rings.glob("*.ring")}, "the application has a ring")
        assert owner == {4321} and pathlib.Path(f"/proc/{inside}").stat().st_uid == 65532
        assert application.wait(120) == 0
        assert json.loads(application.stdout.read().splitlines()[-1])["ended"] == 500

        def delivered():
            shop = [it for it in status(image, inside)["applications"] if it["service"] == "shop"]
            return [(it["started"], share["delivered"], share["balance"]) for it in shop for share in it["exporters"]
                    ] == [(500, 500, 0)]
        eventually(delivered, "all 500 spans are delivered and the ledger balances")
        eventually(lambda: not list(rings.glob("*.ring")), "the daemon removes the drained ring of another user")

        os.kill(inside, signal.SIGTERM)
        assert daemon.wait(60) == 0, (tmp_path / "oteld.log").read_text()
    finally:
        daemon.kill()
        daemon.wait()


# --- The Kubernetes example: what no cluster is needed for ---

@pytest.fixture(scope="module")
def pod():
    return yaml.safe_load((ROOT / "systemd/kubernetes-sidecar.yaml").read_text())["spec"]


def test_the_sidecar_outlives_the_application(pod):
    sidecar, = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert pod["terminationGracePeriodSeconds"] > 10   # The daemon's own deadline for draining.


def test_both_see_one_directory_in_memory(pod):
    def mounts(container):
        return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "oteld-rings")
    assert volume["emptyDir"]["medium"] == "Memory" and volume["emptyDir"]["sizeLimit"]
    assert {mounts(container)["oteld-rings"] for container in pod["initContainers"] + pod["containers"]} == {"/run/oteld"}


def test_the_sidecar_runs_as_the_images_user_with_nothing_to_spare(pod):
    image = dict(instructions(DOCKERFILE.read_text()))
    security = pod["initContainers"][0]["securityContext"]
    assert image["USER"] == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert pod["securityContext"]["fsGroup"] == security["runAsGroup"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
