"""build/examples/relay over real HTTP: what comes in as headers, what goes out to the services that it calls, and the
spans of both. The cases are those of the W3C's rules; the names of their keys and ids are ours."""
import contextlib
import http.client
import http.server
import json
import re
import subprocess
import threading
import urllib.parse

import pytest

from conftest import WATCHDOG_SECONDS, eventually
from lib.backends import config

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
FORM = re.compile(r"^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$")


class Called(http.server.BaseHTTPRequestHandler):
    """A service that is called: keeps what it got."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, [(name.lower(), value) for name, value in self.headers.items()], json.loads(body)))
        self.send_response(500 if "fail" in self.path else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Called)
    server.got = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Relay:
    def __init__(self, build_dir, environment):
        self.process = subprocess.Popen([str(build_dir / "examples/relay"), "--port", "0"], env=environment,
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        assert self.process.stdout.readline() == "listening\n"

    def post(self, body, headers=(), path="/test", method="POST"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WATCHDOG_SECONDS)
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def relay(build_dir, environment):
    with contextlib.closing(Relay(build_dir, environment)) as it:
        yield it


def through(relay, headers, calls=1):
    """The headers that each of the called services got."""
    with service() as called:
        body = json.dumps([{"url": f"{called.url}/{n}", "arguments": [n]} for n in range(calls)]).encode()
        status, answer = relay.post(body, headers)
        assert status == 200, answer
        assert json.loads(answer) == [{"url": f"{called.url}/{n}", "status": 200} for n in range(calls)]
        assert [(path, arguments) for path, _, arguments in called.got] == [(f"/{n}", [n]) for n in range(calls)]
        return [fields for _, fields, _ in called.got]


def all_of(fields, name):
    return [value for key, value in fields if key == name]


def traceparent_of(fields):
    values = all_of(fields, "traceparent")
    assert len(values) == 1, fields
    match = FORM.match(values[0])
    assert match, values
    return match.groups()


@pytest.mark.parametrize("name", ["traceparent", "TraceParent", "TRACEPARENT"])
@pytest.mark.parametrize("value, flags", [
    (PARENT, "01"), (f" \t{PARENT}\t ", "01"), (f"00-{TRACE}-{SPAN}-00", "00"), (f"00-{TRACE}-{SPAN}-02", "02"),
    (f"00-{TRACE}-{SPAN}-ff", "03"), (f"cc-{TRACE}-{SPAN}-01", "01"), (f"cc-{TRACE}-{SPAN}-01-what-comes", "01")])
def test_a_trace_is_continued_under_a_new_span(relay, name, value, flags):
    [fields] = through(relay, [(name, value)])
    trace, span, sent_flags = traceparent_of(fields)
    assert (trace, sent_flags) == (TRACE, flags)
    assert span != SPAN
    assert not all_of(fields, "tracestate")


@pytest.mark.parametrize("headers", [
    [], [("trace-parent", PARENT)], [("traceparent", PARENT), ("traceparent", PARENT)], [("traceparent", "")],
    [("traceparent", PARENT + ".")], [("traceparent", PARENT + "-what-comes")], [("traceparent", f"cc{PARENT[2:]}.what")],
    [("traceparent", f"ff{PARENT[2:]}")], [("traceparent", f".0{PARENT[2:]}")], [("traceparent", f"0{PARENT}")],
    [("traceparent", PARENT[1:])], [("traceparent", PARENT.upper())], [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
    [("traceparent", f"00-{TRACE}-{'0' * 16}-01")], [("traceparent", f"00-{TRACE}1-{SPAN}-01")],
    [("traceparent", f"00-{TRACE[1:]}-{SPAN}-01")], [("traceparent", f"00-{TRACE}-{SPAN}1-01")],
    [("traceparent", f"00-{TRACE}-{SPAN[1:]}-01")], [("traceparent", f"00-{TRACE}-{SPAN}-.1")],
    [("traceparent", f"00-{TRACE}-{SPAN}-001")], [("traceparent", f"00-{TRACE}-{SPAN}-1")]])
def test_anything_else_starts_a_new_trace_and_drops_the_state(relay, headers):
    [fields] = through(relay, [*headers, ("tracestate", "foo=1")])
    trace, _, flags = traceparent_of(fields)
    assert trace not in (TRACE, TRACE[1:] + "1")
    assert flags == "03"  # Sampled, and the id is random.
    assert not all_of(fields, "tracestate")


@pytest.mark.parametrize("states, kept", [
    (["foo=1,bar=2"], "foo=1,bar=2"), (["foo=1,bar=2", "rojo=1", "baz=3"], "foo=1,bar=2,rojo=1,baz=3"),
    (["foo=1", ""], "foo=1"), (["", "foo=1"], "foo=1"), ([" foo=1 \t , \t bar=2"], "foo=1,bar=2"), (["foo@=1"], "foo@=1"),
    (["0a_-*/@b=" + "".join(map(chr, range(0x20, 0x2C)))], "0a_-*/@b=" + "".join(map(chr, range(0x20, 0x2C)))),
    (["foo=1,foo=2"], "foo=1"), (["z" * 256 + "=1"], "z" * 256 + "=1"), (["foo=" + "v" * 256], "foo=" + "v" * 256),
    ([",".join(f"k{n}={n}" for n in range(16)), ",".join(f"k{n}={n}" for n in range(16, 32))],
     ",".join(f"k{n}={n}" for n in range(32))),
    ([""], None), (["foo =1"], None), (["FOO=1"], None), (["foo.bar=1"], None), (["@foo=1,bar=2"], None),
    (["foo=1", "z" * 257 + "=1"], None), (["foo=1", "bar=" + "v" * 257], None), (["foo=bar=baz"], None), (["foo=,bar=3"], None),
    ([",".join(f"k{n}={n}" for n in range(33))], None)])
def test_the_state_goes_on_as_a_whole_or_not_at_all(relay, states, kept):
    [fields] = through(relay, [("traceparent", PARENT), *(("TraceState", state) for state in states)])
    assert traceparent_of(fields)[0] == TRACE
    assert all_of(fields, "tracestate") == ([] if kept is None else [kept])


def test_each_call_has_a_span_of_its_own_in_the_same_trace(relay):
    sent = [traceparent_of(fields) for fields in through(relay, [("traceparent", PARENT)], calls=3)]
    assert {trace for trace, _, _ in sent} == {TRACE}
    assert len({span for _, span, _ in sent} | {SPAN}) == 4


def test_baggage_goes_on(relay):
    [fields] = through(relay, [("baggage", "a=1;p,b=%20"), ("baggage", "c=3")])
    assert all_of(fields, "baggage") == ["a=1;p,b=%20,c=3"]


def test_other_formats(build_dir, environment):
    environment["OTEL_PROPAGATORS"] = "b3multi,xray"
    with contextlib.closing(Relay(build_dir, environment)) as relay:
        [fields] = through(relay, [("b3", f"{TRACE}-{SPAN}-d"), ("traceparent", f"00-{'1' * 32}-{SPAN}-01")])
    assert not all_of(fields, "traceparent")
    assert all_of(fields, "x-b3-traceid") == [TRACE]
    assert all_of(fields, "x-b3-flags") == ["1"]
    [span] = all_of(fields, "x-b3-spanid")
    assert all_of(fields, "x-amzn-trace-id") == [f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={span};Sampled=1"]


def attributes_of(span):
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


def test_server_and_client_spans(relay, daemon, tmp_path):
    out = tmp_path / "spans.jsonl"
    daemon.start(config({"file": {"path": str(out)}}))
    with service() as called:
        body = json.dumps([{"url": f"{called.url}/good", "arguments": None}, {"url": f"{called.url}/fail"},
                           {"url": "http://127.0.0.1:1/nobody"}, {"url": "ftp://host/"}]).encode()
        status, answer = relay.post(body, [("traceparent", PARENT)])
        assert status == 200
        assert [one["status"] for one in json.loads(answer)] == [200, 500, 0, 0]
        assert relay.post(b"{", path="/test")[0] == 400
        assert relay.post(b'[{"arguments": 1}]')[0] == 400
        assert relay.post(b"", path="/other")[0] == 404
        assert relay.post(b"", method="GET")[0] == 405
        port = urllib.parse.urlsplit(called.url).port
        sent = [traceparent_of(fields)[1] for _, fields, _ in called.got]

    def spans():
        lines = out.read_text().splitlines() if out.exists() else []
        found = [span for line in lines for resource in json.loads(line)["resourceSpans"]
                 for scope in resource["scopeSpans"] for span in scope["spans"]]
        # As they began: connections have threads of their own, and so lanes.
        return sorted(found, key=lambda span: int(span["startTimeUnixNano"])) if len(found) == 9 else None
    found = eventually(spans, "nine spans")
    servers = [span for span in found if span["kind"] == 2]
    clients = [span for span in found if span["kind"] == 3]
    assert [(span["name"], attributes_of(span)["http.response.status_code"]) for span in servers] == [
        ("POST /test", "200"), ("POST /test", "400"), ("POST /test", "400"), ("POST", "404"), ("GET /test", "405")]
    first = servers[0]
    assert (first["traceId"], first["parentSpanId"]) == (TRACE, SPAN)
    assert {span["parentSpanId"] for span in clients} == {first["spanId"]}
    assert [span["spanId"] for span in clients[:2]] == sent
    good, bad, nobody, nonsense = [{**attributes_of(span), "status": span.get("status", {}).get("code", 0)} for span in clients]
    assert good == {"http.request.method": "POST", "url.full": f"{called.url}/good", "server.address": "127.0.0.1",
                    "server.port": str(port), "http.response.status_code": "200", "status": 0}
    assert (bad["http.response.status_code"], bad["error.type"], bad["status"]) == ("500", "500", 2)
    assert (nobody["error.type"], nobody["status"], nonsense["status"]) == ("exception", 2, 2)
    assert attributes_of(first)["http.route"] == "/test"
    assert attributes_of(first)["client.address"] == "127.0.0.1"


def test_what_it_says_about_its_command_line(build_dir):
    for arguments in [[], ["--port"], ["--port", "x"], ["--port", "70000"], ["--port", "-1"], ["--host", "0"]]:
        done = subprocess.run([str(build_dir / "examples/relay"), *arguments], capture_output=True, text=True,
                              timeout=WATCHDOG_SECONDS)
        assert done.returncode == 2 and "usage" in done.stderr, arguments
