"""The spans that gRPC is lent are not read after send() has returned, and cancel() does not wait for them."""
import socket
import subprocess
import threading

import exporting


def test_lent_memory_is_not_read_after_send_has_returned():
    """A deadline passes while the kernel's buffers are full of half a request; then the spans' memory is reused.

    What the server reads after that must not contain the bytes that were written over the spans.
    """
    with SleepyHttp2Server() as server:
        command = exporting.command("grpc", f"127.0.0.1:{server.port}", spans=20, runs=2, attribute_bytes=2_000_000,
                                    timeout_ms=1000, overwrite=1, linger=1)  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()  # send() has returned, the memory is overwritten with 0xff.
        server.go_on.set()
        server.thread.join(5)  # Ends at once when the connection was given up, as it must have been.
        process.communicate("\n", timeout=exporting.WATCHDOG_S)
    assert '"retry_after"' in line
    assert b"x" * 1000 in server.received
    assert b"\xff" * 64 not in server.received


def test_cancel_does_not_wait_for_a_write_that_is_stuck():
    """The timeout is an hour, and the server reads no more until send() has returned."""
    with SleepyHttp2Server() as server:
        command = exporting.command("grpc", f"127.0.0.1:{server.port}", spans=20, runs=2, attribute_bytes=2_000_000,
                                    timeout_ms=3_600_000, cancel_at_line=1)  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        server.asleep.wait(exporting.WATCHDOG_S)
        output, _ = process.communicate("\n", timeout=exporting.WATCHDOG_S)
    assert '"retry_after"' in output and "interrupted" in output


def h2_frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class SleepyHttp2Server:
    """Opens HTTP/2's windows as wide as they go, reads for a moment, and then no more until told to.

    So a client's write of a large request is stuck half-way when its deadline comes.
    """

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.port = self.socket.getsockname()[1]
        self.asleep = threading.Event()
        self.go_on = threading.Event()
        self.received = b""
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def serve(self):
        connection, _ = self.socket.accept()
        with connection:
            wide = (0x4).to_bytes(2, "big") + (2**31 - 1).to_bytes(4, "big")
            connection.sendall(h2_frame(4, 0, 0, wide) + h2_frame(4, 1, 0, b"") +
                               h2_frame(8, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big")))  # fmt: skip
            while len(self.received) < 256 * 1024:
                self.received += connection.recv(64 * 1024)
            self.asleep.set()
            self.go_on.wait()
            try:
                while data := connection.recv(1 << 20):
                    self.received += data
            except ConnectionError:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.socket.close()
        self.thread.join(exporting.WATCHDOG_S)
