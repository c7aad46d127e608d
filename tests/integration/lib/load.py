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
        """Kills it; returns what it had said on standard error."""
        self.process.send_signal(signal.SIGKILL)
        _, error = self.process.communicate(timeout=WATCHDOG_SECONDS)
        assert self.process.returncode == -signal.SIGKILL, "it had ended before it was killed"
        return error

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


Seen = collections.namedtuple("Seen", "service thread seq unfinished status_code status_message request")


def seen_in_file(*paths, look=None, service=None):
    """The spans that the file exporter wrote, in rotated files too, each as a Seen; `request` is the line's number.
    look(attributes) is called for each. `service`: only its spans; others may be any nonsense then."""
    lines = (line for path in paths if path.exists() for line in path.read_text().splitlines())
    out = []
    for number, line in enumerate(lines):
        for resource_spans in json.loads(line)["resourceSpans"]:
            name = service_of(resource_spans)
            if service not in (None, name):
                continue
            for span in (span for scope in resource_spans["scopeSpans"] for span in scope["spans"]):
                has, status = attributes_in_json(span.get("attributes", [])), span.get("status", {})
                if look:
                    look(has)
                out.append(Seen(name, has.get("load.thread"), has.get("load.seq"), has.get("oteld.unfinished", False),
                                status.get("code", 0), status.get("message", ""), number))  # fmt: skip
    return out


def times_in_file(path, service):
    """[(start, end)] of the service's spans, Unix nanoseconds, as the file exporter wrote them."""
    out = []
    for line in path.read_text().splitlines():
        for resource_spans in json.loads(line)["resourceSpans"]:
            if service_of(resource_spans) == service:
                out += [(int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]))
                        for scope in resource_spans["scopeSpans"] for span in scope["spans"]]  # fmt: skip
    return out


def service_of(resource_spans):
    """None: there is no such text."""
    pairs = resource_spans.get("resource", {}).get("attributes", [])
    return next((pair["value"].get("stringValue") for pair in pairs if pair.get("key") == "service.name" and "value" in pair), None)


def attributes_in_json(pairs):
    """Scalars as Python's own, the others as they are written."""
    def plain(value):
        (kind, it), = value.items()
        return int(it) if kind == "intValue" else it
    return {pair["key"]: plain(pair["value"]) for pair in pairs}


def seen_by(receiver):
    """The spans that a receiver took, each as a Seen; `request` is the request's number, from 0."""
    out = []
    for number, message in enumerate(receiver.messages()):
        for resource_spans in message.resource_spans:
            service, = (it.value.string_value for it in resource_spans.resource.attributes if it.key == "service.name")
            for span in (span for scope in resource_spans.scope_spans for span in scope.spans):
                has = {it.key: it.value for it in span.attributes}
                out.append(Seen(service, has["load.thread"].int_value, has["load.seq"].int_value,
                                "oteld.unfinished" in has and has["oteld.unfinished"].bool_value,
                                span.status.code, span.status.message, number))  # fmt: skip
    return out


def audit_killed(load, seen, dropped=0, once=True):
    """Each span whose end() had returned arrived (once), but for as many as the ledger says were dropped; nothing else
    did but what was open, marked as unfinished. Returns the spans of this run."""
    mine = [span for span in seen if span.service == load.service]
    counts = collections.Counter((span.thread, span.seq) for span in mine)
    ended = dict.fromkeys(range(load.threads), 0) | load.ended()  # Killed before it had a progress file: none.
    assert set(ended) == set(range(load.threads))
    twice = [key for key, count in counts.items() if count > 1]
    assert not (once and twice), f"{load.service}: arrived more than once: {sorted(twice)[:5]}"
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
        assert (span.status_code, span.status_message) == (2, "process died before the span ended"), span
    return mine
