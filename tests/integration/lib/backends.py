"""Configurations, and backends to send to: our receiver around upstream's decoder, and Rotel, which others wrote."""
import json
import pathlib
import socket
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
import receiving  # noqa: E402

from conftest import eventually  # noqa: E402


class Receiver(receiving.Receiver):
    """Writes down what it was sent as it came: protobuf's JSON form would take it longer than the sending does."""

    def __init__(self, *arguments, write="raw", **options):
        super().__init__(*arguments, write=write, **options)

    def count(self):
        """Requests so far, without reading them again and again."""
        return self.journal.read_bytes().count(b"\n")

    def wait_for_requests(self, count):
        self.wait_for(lambda: self.count() >= count, f"{count} requests")


def config(exporters, **shm):
    """YAML (JSON is YAML) of a pipeline from the rings to these exporters. Everything is quick unless it says otherwise."""
    def quick(id, settings):
        out = {"sending_queue": {"batch": {"flush_timeout": "30ms"}}, **settings}
        if id.split("/")[0].startswith("otlp"):
            out = {"retry_on_failure": {"initial_interval": "50ms", "max_interval": "200ms"}, **out}
        return out

    return json.dumps({
        "receivers": {"shm": shm},
        "exporters": {id: quick(id, settings) for id, settings in exporters.items()},
        "service": {"pipelines": {"traces": {"receivers": ["shm"], "exporters": list(exporters)}}},
    })  # fmt: skip


def otlp(receiver, **settings):
    """(type of the exporter, its settings) for this receiver."""
    scheme = "https" if receiver.secure else "http"
    return f"otlp_{receiver.protocol}", {"endpoint": f"{scheme}://{receiver.where}", **settings}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Rotel:
    """Rotel's agent, which decodes OTLP with code of its own and forwards what it got to a receiver of ours."""

    def __init__(self, directory, receiver):
        import rotel

        self.grpc, self.http = free_port(), free_port()
        self.log = directory / "rotel.log"
        binary = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "start", "--pid-file", directory / "rotel.pid", "--log-file", directory / "agent.log",
                 "--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc}", "--otlp-http-endpoint", f"127.0.0.1:{self.http}",
                 "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://{receiver.where}",
                 "--batch-timeout", "50ms"], stdout=log, stderr=log)  # fmt: skip
        for port in (self.grpc, self.http):
            eventually(lambda port=port: self.accepts(port), "Rotel accepts connections")

    def accepts(self, port):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def exporter(self, protocol):
        return f"otlp_{protocol}", {"endpoint": f"http://127.0.0.1:{getattr(self, protocol)}"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
