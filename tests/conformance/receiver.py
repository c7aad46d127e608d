#!/usr/bin/env python3
"""A receiver of OTLP traces that behaves as badly as it is told to, and writes down what it was sent.

The receiving half is not ours: grpcio or Python's own http.server for the transport, upstream's
`opentelemetry-proto` for the messages. Prints `listening PORT` (or `listening PATH`) once it accepts
connections, and ends at SIGTERM or SIGINT.

    receiver.py --protocol grpc --requests /tmp/requests.jsonl
    receiver.py --protocol http --requests R --answer 'refuse:503;retry-after=2;times=3' --answer ok
    receiver.py --protocol grpc --requests R --tls-cert server.pem --tls-key server.key --client-ca ca.pem
    receiver.py --protocol grpc --requests R --answers-file A    # read again at every request

An answer is NAME[:ARGUMENT][;option=value]...; several are used one after the other, the last for ever.
    ok               takes the spans
    partial:N        takes the request, rejects N spans of it (0 with a message: a warning)
    refuse:CODE      HTTP status, or gRPC code by number or name (refuse:UNAVAILABLE)
    hang             reads the request and never answers
    cut              HTTP: closes in the middle of the answer's body. gRPC: closes instead of answering
    close            closes the connection instead of answering
    big:BYTES        an answer with a partial-success message of that many bytes (HTTP: gzip if accepted)
    redirect:URL     HTTP 307 with that location
Options: message=TEXT, retry-after=SECONDS_OR_DATE (HTTP), retry-info-ms=MS (gRPC), delay-ms=MS, times=N.

Each request is one line of JSON in the requests file, written before the answer is sent:
    {"number", "protocol", "path", "headers": {lower-case name: value}, "encoding", "body_bytes" (as sent),
     "connection_bytes" (gRPC over TCP: all that the connection has received so far), "spans", "answer",
     "taken": true when the answer took the request (ok, partial, big),
     "request": protobuf's JSON form, ids in base64 (absent with --write raw),
     "raw": the uncompressed message in base64}
A message that upstream's decoder refuses is written with "malformed": what it says, and is answered with
HTTP 400 or INVALID_ARGUMENT whatever the answer was to be.
"""
import argparse
import base64
import concurrent.futures
import gzip
import http.server
import json
import os
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time

from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
MESSAGE_BYTES_MAX = 256 << 20


class Answer:
    """One answer as written on the command line."""

    NAMES = ("ok", "partial", "refuse", "hang", "cut", "close", "big", "redirect")
    OPTIONS = ("message", "retry-after", "retry-info-ms", "delay-ms", "times")

    def __init__(self, text):
        head, *options = text.strip().split(";")
        self.text = text.strip()
        self.name, _, self.argument = head.partition(":")
        self.options = dict(option.split("=", 1) for option in options)
        unknown = set(self.options) - set(self.OPTIONS)
        if self.name not in self.NAMES or unknown:
            raise ValueError(f"not an answer: {text!r}; see --help")

    @property
    def takes(self):
        return self.name in ("ok", "partial", "big")

    @property
    def message(self):
        return self.options.get("message", "")

    def response(self):
        """The ExportTraceServiceResponse of an answer that takes the request."""
        response = trace_service_pb2.ExportTraceServiceResponse()
        if self.name == "partial":
            response.partial_success.rejected_spans = int(self.argument)
            response.partial_success.error_message = self.message
        elif self.name == "big":
            response.partial_success.error_message = "x" * int(self.argument)
        return response.SerializeToString()

    def status(self, code):
        """The google.rpc.Status of a refusal."""
        status = status_pb2.Status(code=code, message=self.message)
        if "retry-info-ms" in self.options:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(int(self.options["retry-info-ms"]))
            detail = any_pb2.Any()
            detail.Pack(info)
            status.details.append(detail)
        return status.SerializeToString()


class Script:
    """Says which answer the next request gets. Any thread."""

    def __init__(self, answers, path):
        self.lock = threading.Lock()
        self.path = path
        self.source = None
        self.load(answers or ["ok"])

    def load(self, texts):
        self.left = []
        for answer in map(Answer, texts):
            self.left += [answer] * int(answer.options.get("times", 1))

    def next(self):
        with self.lock:
            if self.path:
                with open(self.path, encoding="utf-8") as file:
                    source = file.read()
                if source != self.source:
                    self.source = source
                    self.load([line for line in source.splitlines() if line.strip()] or ["ok"])
            return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class Journal:
    """Writes each request down. Any thread."""

    def __init__(self, path, with_json):
        self.lock = threading.Lock()
        self.file = open(path, "a", encoding="utf-8")
        self.with_json = with_json
        self.number = 0

    def write(self, message, answer, **facts):
        """Returns the answer to give: the one that was planned, unless the message is malformed."""
        request = trace_service_pb2.ExportTraceServiceRequest()
        try:
            request.ParseFromString(message)
        except DecodeError as error:
            facts["malformed"] = str(error)
            code = "INVALID_ARGUMENT" if facts["protocol"] == "grpc" else "400"
            answer = Answer(f"refuse:{code};message=malformed")
        spans = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
        line = {**facts, "spans": spans, "answer": answer.text, "taken": answer.takes}
        if self.with_json:
            line["request"] = json_format.MessageToDict(request)
        line["raw"] = base64.b64encode(message).decode()
        with self.lock:
            self.number += 1
            self.file.write(json.dumps({"number": self.number, **line}) + "\n")
            self.file.flush()
        return answer


def peer_sockets(peer):
    """This process's sockets that are connected to `peer`, "ipv4:ADDRESS:PORT" as gRPC writes it."""
    port = int(peer.rsplit(":", 1)[1])
    for name in os.listdir("/proc/self/fd"):
        try:
            candidate = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # Not a socket, or closed meanwhile.
        with candidate:
            try:
                name = candidate.getpeername()
            except OSError:
                continue
            if isinstance(name, tuple) and len(name) >= 2 and name[1] == port:
                yield candidate


def bytes_received(peer):
    if not peer.startswith(("ipv4:", "ipv6:")):
        return None
    for connection in peer_sockets(peer):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        return struct.unpack_from("Q", info, 128)[0]  # tcpi_bytes_received
    return None


def serve_grpc(options, script, journal):
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # Failed handshakes are what tests ask for.
    import grpc

    codes = {code.name: code for code in grpc.StatusCode}
    codes |= {str(code.value[0]): code for code in grpc.StatusCode}

    def refuse(answer, context):
        code = codes[answer.argument]
        if "retry-info-ms" in answer.options:
            details = answer.status(code.value[0])
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(code, answer.message)

    def export(message, context):
        headers = {item.key: item.value for item in context.invocation_metadata()}
        answer = journal.write(
            message,
            script.next(),
            protocol="grpc",
            path=f"/{SERVICE}/Export",
            headers={k: v if isinstance(v, str) else v.hex() for k, v in headers.items()},
            connection_bytes=bytes_received(context.peer()),
        )
        time.sleep(int(answer.options.get("delay-ms", 0)) / 1000)
        if answer.name == "hang":
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait()
        elif answer.name in ("cut", "close"):
            for connection in peer_sockets(context.peer()):
                connection.shutdown(socket.SHUT_RDWR)
        elif answer.name == "refuse":
            refuse(answer, context)
        return answer.response()

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=64),
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ),
    )
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),)
    )
    address = "unix:" + options.unix if options.unix else options.listen
    if options.tls_cert:
        credentials = grpc.ssl_server_credentials(
            [(read(options.tls_key), read(options.tls_cert))],
            read(options.client_ca) if options.client_ca else None,
            bool(options.client_ca),
        )
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, options.unix or port


class HttpHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):  # Silence: the requests file says it all.
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        encoding = self.headers.get("content-encoding", "")
        message = gzip.decompress(body) if encoding == "gzip" else body
        answer = self.server.journal.write(
            message,
            self.server.script.next(),
            protocol="http",
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            encoding=encoding,
            body_bytes=len(body),
        )
        time.sleep(int(answer.options.get("delay-ms", 0)) / 1000)
        getattr(self, "answer_" + answer.name)(answer)

    def answer_ok(self, answer):
        self.reply(200, answer.response())

    answer_partial = answer_ok

    def answer_big(self, answer):
        body, headers = answer.response(), {}
        if "gzip" in self.headers.get("accept-encoding", ""):
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        self.reply(200, body, headers)

    def answer_refuse(self, answer):
        wait = answer.options.get("retry-after")
        self.reply(int(answer.argument), answer.status(0), {"Retry-After": wait} if wait else {})

    def answer_redirect(self, answer):
        self.reply(307, b"", {"Location": answer.argument})

    def answer_hang(self, answer):
        select.select([self.connection], [], [])  # Readable: the client has gone.
        self.close_connection = True

    def answer_cut(self, answer):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"\x0a\x04half")
        self.answer_close(answer)

    def answer_close(self, answer):
        self.close_connection = True

    def reply(self, code, body, headers={}):
        self.send_response(code)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)


class TlsHttpServer(HttpServer):
    def __init__(self, address, handler, context):
        super().__init__(address, handler)
        self.context = context

    def finish_request(self, request, client_address):
        # Here and not in the accepting thread: a client that never shakes hands must not block the others.
        with self.context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)


def serve_http(options, script, journal):
    host, _, port = options.listen.rpartition(":")
    address = (host.strip("[]"), int(port))
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        context.set_alpn_protocols(["http/1.1"])
        if options.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.client_ca)
        server = TlsHttpServer(address, HttpHandler, context)
    else:
        server = HttpServer(address, HttpHandler)
    server.script, server.journal = script, journal
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", choices=("grpc", "http"), required=True)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--unix", metavar="PATH", help="listen on this socket instead (gRPC only)")
    parser.add_argument("--requests", required=True, metavar="FILE", help="appended to")
    parser.add_argument("--write", choices=("full", "raw"), default="full")
    parser.add_argument("--answer", action="append", metavar="ANSWER")
    parser.add_argument("--answers-file", metavar="FILE", help="one answer a line")
    parser.add_argument("--tls-cert", metavar="FILE")
    parser.add_argument("--tls-key", metavar="FILE")
    parser.add_argument("--client-ca", metavar="FILE", help="ask for a certificate signed by this")
    options = parser.parse_args()
    if options.unix and options.protocol == "http":
        parser.error("--unix works with --protocol grpc only")

    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # Before any thread: all inherit it.
    script = Script(options.answer, options.answers_file)
    journal = Journal(options.requests, options.write == "full")
    serve = serve_grpc if options.protocol == "grpc" else serve_http
    server, where = serve(options, script, journal)  # Held: a gRPC server that nobody holds stops.
    print("listening", where, flush=True)
    signal.sigwait(ending)
    with journal.lock:
        journal.file.flush()
    os._exit(0)  # Answers that hang must not keep the process.


if __name__ == "__main__":
    main()
