"""`oteld load` as a child process: started, waited for or killed, and audited by its progress file."""
import collections
import json
import signal
import struct
import subprocess

WATCHDOG_SECONDS = 120


class Load:
    def __init__(self, daemon, service, *, threads=1, progress=None, environment=None, command=None, **options):
        """Options of `oteld load`: spans=1000, rate=5000, leave_open=3, ..."""
        self.service = service
        self.threads = threads
        self.progress = progress
        words = [*(command or [str(daemon.oteld)]), "load", "--service", service, "--threads", str(threads)]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        if progress:
            words += ["--progress", str(progress)]
        self.process = subprocess.Popen(words, env={**daemon.environment, **(environment or {})},
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip

    def finish(self):
        """Waits; returns what it printed."""
        out, error = self.process.communicate(timeout=WATCHDOG_SECONDS)
        assert self.process.returncode == 0, error
        return json.loads(out.strip().splitlines()[-1])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=WATCHDOG_SECONDS)
        assert self.process.returncode == -signal.SIGKILL, "it had ended before it was killed"

    def ended(self):
        """{thread: the last load.seq whose end() has returned}, right even after a kill."""
        data = self.progress.read_bytes() if self.progress.exists() else b""
        return dict(enumerate(struct.unpack(f"<{len(data) // 8}Q", data)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def load(daemon, service, **options):
    """Runs it to its end; returns what it printed."""
    with Load(daemon, service, **options) as it:
        return it.finish()


Seen = collections.namedtuple("Seen", "service thread seq unfinished status_code status_message attributes request")


def plain(value):
    """An AnyValue in OTLP's JSON form as Python's own."""
    (kind, it), = value.items() or [(None, None)]
    if kind == "arrayValue":
        return [plain(item) for item in it.get("values", [])]
    if kind == "kvlistValue":
        return attributes_of(it.get("values", []))
    return int(it) if kind == "intValue" else it


def attributes_of(pairs):
    return {pair["key"]: plain(pair["value"]) for pair in pairs}


def seen_in(requests):
    """What arrived, from TracesData in OTLP's JSON form, one after the other."""
    for number, request in enumerate(requests):
        for resource_spans in request.get("resourceSpans", []):
            service = attributes_of(resource_spans["resource"]["attributes"])["service.name"]
            for span in (span for scope in resource_spans["scopeSpans"] for span in scope["spans"]):
                has = attributes_of(span.get("attributes", []))
                status = span.get("status", {})
                yield Seen(service, has.get("load.thread"), has.get("load.seq"), has.get("oteld.unfinished", False),
                           status.get("code", 0), status.get("message", ""), has, number)  # fmt: skip


def seen_in_file(*paths):
    """What the file exporter wrote, in rotated files too."""
    lines = (line for path in paths if path.exists() for line in path.read_text().splitlines())
    return list(seen_in(json.loads(line) for line in lines))


def seen_by(receiver):
    return list(seen_in(request["request"] for request in receiver.requests() if request["taken"]))


def audit_killed(load, seen, dropped=0):
    """Each span whose end() had returned arrived once, but for as many as the ledger says were dropped; nothing else did
    but what was open, marked as unfinished. Returns the spans of this run."""
    mine = [span for span in seen if span.service == load.service]
    counts = collections.Counter((span.thread, span.seq) for span in mine)
    ended = load.ended()
    assert set(ended) == set(range(load.threads))
    twice = [key for key, count in counts.items() if count > 1]
    assert not twice, f"{load.service}: arrived more than once: {sorted(twice)[:5]}"
    finished = {(span.thread, span.seq) for span in mine if not span.unfinished}
    missing = [(thread, seq) for thread, last in ended.items() for seq in range(1, last + 1) if (thread, seq) not in finished]
    # A drop may have been counted without being noted as ended.
    assert 0 <= dropped - len(missing) <= min(dropped, load.threads), (
        f"{load.service}: {len(missing)} of {sum(ended.values())} ended spans are missing, {dropped} were dropped: {missing[:5]}")
    for thread, last in ended.items():
        # The one behind the last may have ended without being noted; none further had begun.
        surplus = [seq for (of, seq) in counts if of == thread and seq > last + 1]
        assert not surplus, f"{load.service}: thread {thread} cannot have begun {surplus[:5]}"
    for span in (span for span in mine if span.unfinished):
        assert span.seq == ended[span.thread] + 1, f"{load.service}: {span} had ended"
        # The file has enums as numbers, protobuf's own JSON has their names.
        assert span.status_code in (2, "STATUS_CODE_ERROR"), span
        assert span.status_message == "process died before the span ended", span
    return mine
