"""Starts receiver.py for a test and reads what it wrote down.

    with Receiver("grpc", tmp_path, "ok") as receiver:
        ... export to receiver.endpoint ...
        receiver.wait_for_spans(1000)
        receiver.answer("hang")            # From the next request on.
"""
import base64
import json
import pathlib
import subprocess
import sys
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

WATCHDOG_S = 60


class Receiver:
    def __init__(self, protocol, directory, *answers, port=0, unix=None, tls=None, client_ca=None,
                 write="full"):  # fmt: skip
        """`tls` is the path of a certificate; its key lies beside it, as certificates.py leaves it."""
        self.protocol = protocol
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.journal = directory / "requests.jsonl"
        self.journal.touch()
        self.answers = directory / "answers"
        self.answer(*(answers or ("ok",)))
        self.secure = bool(tls)
        command = [sys.executable, str(pathlib.Path(__file__).with_name("receiver.py")),
                   "--protocol", protocol, "--requests", str(self.journal), "--write", write,
                   "--answers-file", str(self.answers), "--listen", f"127.0.0.1:{port}"]  # fmt: skip
        command += ["--unix", str(unix)] if unix else []
        if tls:
            command += ["--tls-cert", str(tls), "--tls-key", str(pathlib.Path(tls).with_suffix(".key"))]
        command += ["--client-ca", str(client_ca)] if client_ca else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        word, _, where = self.process.stdout.readline().strip().partition(" ")
        if word != "listening":
            raise RuntimeError(f"receiver did not start: {' '.join(command)}")
        self.port = None if unix else int(where)
        self.where = f"unix:{where}" if unix else f"127.0.0.1:{where}"

    @property
    def endpoint(self):
        """As exporters take it: HOST:PORT or unix:PATH for gRPC, a full URL for HTTP."""
        if self.protocol == "grpc":
            return self.where
        return f"{'https' if self.secure else 'http'}://{self.where}/v1/traces"

    def answer(self, *answers):
        """Sets the answers to all further requests. Written aside and renamed: never seen half done."""
        aside = self.answers.with_suffix(".new")
        aside.write_text("\n".join(answers) + "\n")
        aside.rename(self.answers)

    def requests(self):
        """All requests so far, as dictionaries (see receiver.py)."""
        text = self.journal.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def messages(self, taken_only=True):
        """All requests so far as ExportTraceServiceRequest."""
        return [trace_service_pb2.ExportTraceServiceRequest.FromString(base64.b64decode(r["raw"]))
                for r in self.requests() if r["taken"] or not taken_only]  # fmt: skip

    def spans(self):
        """All spans taken so far, as (resource, scope, span)."""
        return [(r.resource, s.scope, span) for message in self.messages()
                for r in message.resource_spans for s in r.scope_spans for span in s.spans]  # fmt: skip

    def wait_for(self, condition, what):
        deadline = time.monotonic() + WATCHDOG_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {WATCHDOG_S} s in vain for {what}")
            time.sleep(0.02)

    def wait_for_spans(self, count):
        self.wait_for(lambda: sum(r["spans"] for r in self.requests() if r["taken"]) >= count,
                      f"{count} spans")  # fmt: skip

    def wait_for_requests(self, count):
        self.wait_for(lambda: len(self.requests()) >= count, f"{count} requests")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
