"""File systems that get full, read-only or stuck, and limits of the kernel: what tests put in oteld's way and take away."""
import contextlib
import os
import shutil
import subprocess
import uuid

import pytest

from conftest import eventually

MIB = 1 << 20


def need_root(what):
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


class FileSystem:
    """Mounted on a directory of its own. What oteld writes goes below `top`: while nothing is mounted it is not there."""

    def __init__(self, directory):
        need_root("mounting")
        directory.mkdir()
        self.directory = directory
        self.top = directory / "top"
        self._ballast = directory / "ballast"
        self.mounted_once = False  # From then on the machine allows it, and a failure is one.

    def mount(self, *arguments):
        done = run("mount", *arguments, self.directory)
        if done.returncode != 0 and not self.mounted_once:
            pytest.skip(f"this machine refuses a mount: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        self.mounted_once = True
        self.top.mkdir(exist_ok=True)

    def unmount(self):
        def unmounted():
            return run("umount", self.directory).returncode == 0
        eventually(unmounted, f"nobody uses {self.directory}")

    def free(self):
        space = os.statvfs(self.directory)
        return space.f_bavail * space.f_frsize

    def fill(self, leave=0):
        """A file takes all the room that there is, but for so many bytes."""
        with open(self._ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while (room := self.free() - leave) > 0:
                file.write(b"x" * min(room, MIB))

    def make_room(self):
        self._ballast.unlink()

    def close(self):
        run("umount", "-l", self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Tmpfs(FileSystem):
    def __init__(self, directory, size):
        super().__init__(directory)
        self.mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")


class Disk(FileSystem):
    """An ext4 in a file: it turns read-only under open files, as one with errors does, and it can be stopped."""

    def __init__(self, directory, size=8 * MIB):
        super().__init__(directory)
        if not shutil.which("mkfs.ext4"):
            pytest.skip("mkfs.ext4 is not installed here (Debian: e2fsprogs)")
        self.image = directory.parent / f"{directory.name}.img"
        with open(self.image, "wb") as image:
            image.truncate(size)
        done = run("mkfs.ext4", "-q", "-O", "^has_journal", "-U", uuid.uuid4(), self.image)
        assert done.returncode == 0, done.stderr
        self.attach()

    def attach(self):
        self.mount("-o", "loop", self.image)

    def fail(self):
        """As an error of the disk does with errors=remount-ro: only another mount makes it writable again. What the
        kernel had not written yet is not what is tested here."""
        assert run("sync", "--file-system", self.directory).returncode == 0
        done = run("mount", "-o", "remount,abort", self.directory)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def stopped(self):
        """Who writes waits, for as long as that takes."""
        assert run("fsfreeze", "--freeze", self.directory).returncode == 0
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", self.directory)

    def close(self):
        run("fsfreeze", "--unfreeze", self.directory)
        super().close()


class Mute:
    """A file system whose server says nothing: whoever looks into it waits, until he is killed. `close` ends it, and leaves
    an ordinary directory."""

    def __init__(self, directory):
        need_root("mounting")
        directory.mkdir()
        self.directory = directory
        if not os.path.exists("/dev/fuse"):
            pytest.skip("this machine has no FUSE")
        self._server = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._server},rootmode=40000,user_id=0,group_id=0"
        done = subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "mute", str(directory)], pass_fds=[self._server],
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        if done.returncode != 0:
            os.close(self._server)
            pytest.skip(f"this machine refuses a mount: {done.stderr.strip()}")

    def close(self):
        if self._server is not None:
            os.close(self._server)
            self._server = None
            done = run("umount", "-i", "-l", self.directory)
            assert done.returncode == 0, done.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def limit(process, **limits):
    """Resource limits of a process that runs: fsize=4096, nofile=32, or "unlimited"."""
    for name, value in limits.items():
        done = run("prlimit", "--pid", process.pid, f"--{name}={value}:")
        assert done.returncode == 0, done.stderr
