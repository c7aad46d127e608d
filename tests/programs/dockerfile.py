"""Builds and runs a container image without a container engine: the few Dockerfile instructions that ours needs.

Used by the container test, on machines without docker. The base image is a directory that holds a minimal Debian 12
(tests/programs/debian-root); the image is that directory, changed in place. An unknown instruction is an error: what
the file says and what is tested never drift apart.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

DEBIAN_ROOT = pathlib.Path(__file__).with_name("debian-root")


class Image:
    def __init__(self, root, base_name):
        self.root = pathlib.Path(root)
        self.arguments = {"BASE": base_name}   # As --build-arg BASE=...
        self.base = None
        self.environment = {}
        self.user = "0:0"
        self.entrypoint = []
        self.command = []
        self.stop_signal = "SIGTERM"

    def build(self, dockerfile, context):
        for word, rest in instructions(pathlib.Path(dockerfile).read_text()):
            rest = re.sub(r"\$\{(\w+)\}", lambda match: self.arguments[match[1]], rest) if word == "FROM" else rest
            match word:
                case "ARG": self.arguments.setdefault(*(rest.split("=", 1) + [""])[:2])
                case "FROM": self.base = rest
                case "RUN": self._run(rest)
                case "COPY": self._copy(pathlib.Path(context), *rest.split())
                case "ENV": self.environment |= dict(pair.split("=", 1) for pair in rest.split())
                case "USER": self.user = rest
                case "STOPSIGNAL": self.stop_signal = rest
                case "ENTRYPOINT": self.entrypoint = json.loads(rest)
                case "CMD": self.command = json.loads(rest)
                case _: raise ValueError(f"{word} is not known here: teach it to {__file__}")
        return self

    def _run(self, command):
        done = subprocess.run([DEBIAN_ROOT, "enter", self.root, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", command],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"RUN {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def _copy(self, context, source, target):
        target = self.root / target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if (context / source).is_dir():
            shutil.copytree(context / source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(context / source, target)

    def start(self, volumes, *command, user=None, entrypoint=None, environment=None, **options):
        """Starts a container: own mount, PID and IPC namespaces, the image's user; volumes: {path inside: path here}.

        The process returned is `unshare`, which waits for the container's first process: first_process() finds it.
        """
        script = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"\n' + "".join(
            f'mkdir -p "$0{inside}"; mount --bind {here} "$0{inside}"\n' for inside, here in volumes.items())
        script += 'exec chroot --userspec="$1" --groups="" "$0" env -i "${@:2}"'
        words = [*(entrypoint or self.entrypoint), *(command or self.command)]
        variables = [f"{name}={value}" for name, value in
                     {"PATH": "/usr/bin:/bin", **self.environment, **(environment or {})}.items()]
        return subprocess.Popen(["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "bash", "-euc", script,
                                 str(self.root), user or self.user, *variables, *words], **options)


    def execute(self, pid, *command):
        """A command in the running container whose first process this is, as its user (`kubectl exec`)."""
        variables = [f"{name}={value}" for name, value in {"PATH": "/usr/bin:/bin", **self.environment}.items()]
        return subprocess.run(["nsenter", "--target", str(pid), "--mount", "--pid", "--ipc", "chroot",
                               f"--userspec={self.user}", "--groups=", str(self.root), "env", "-i", *variables, *command],
                              capture_output=True, text=True, timeout=60)


def first_process(container):
    """The process id, as seen here, of the container's process 1."""
    children = pathlib.Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    return int(children[0]) if children else None


def instructions(text):
    """Pairs (WORD, rest) with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")
