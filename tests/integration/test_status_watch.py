"""`oteld status --watch` on a terminal: a pseudo-terminal of the size we like, and a screen made of what is written to it."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from conftest import eventually
from lib.backends import config
from lib.load import Load, load

SEQUENCE = re.compile(r"\x1b\[([?]?)([0-9;]*)([A-Za-z])")


class Screen:
    """As much of a terminal as the command uses; whatever else it writes is a failure. `frames` counts the returns to the
    upper left corner, `scrolled` the lines that fell off the top."""

    def __init__(self, columns, rows):
        self.on = {"7": True, "25": True, "1049": False}  # Wrapping, the cursor, the other screen.
        self.frames = self.scrolled = 0
        self.left = ""  # A sequence whose end has not come yet.
        self.resize(columns, rows)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.x = self.y = 0
        self.uncut = [""] * rows

    def feed(self, text):
        text, self.left = self.left + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = SEQUENCE.match(text, at)
                if not found:
                    assert len(text) - at < 16, f"not a sequence: {text[at:at + 16]!r}"
                    self.left = text[at:]
                    return
                self.control(*found.groups())
                at = found.end()
            else:
                self.put(text[at])
                at += 1

    def control(self, private, numbers, letter):
        match private, numbers, letter:
            case "?", mode, "h" | "l":
                self.on[mode] = letter == "h"
            case "", "", "H":
                self.x = self.y = 0
                self.frames += 1
            case "", "", "K":
                self.uncut[self.y] = self.uncut[self.y][: self.x]
            case "", "", "J":
                self.uncut[self.y :] = [self.uncut[self.y][: self.x]] + [""] * (self.rows - self.y - 1)
            case "", _, "m":
                pass
            case _:
                pytest.fail(f"unknown sequence: {private}{numbers}{letter}")

    def put(self, letter):
        if letter == "\r":
            self.x = 0
        elif letter == "\n":
            self.y += 1
            if self.y == self.rows:
                self.scrolled += 1
                self.y -= 1
                self.uncut = self.uncut[1:] + [""]
        else:
            assert letter.isprintable(), repr(letter)
            row = self.uncut[self.y]
            self.uncut[self.y] = row[: self.x] + letter + row[self.x + 1 :]
            self.x += 1

    def complete(self):
        """Whether the last frame has come to its end."""
        return any(row.startswith("q quits") for row in self.uncut)

    def lines(self):
        return [row[: self.columns].rstrip() for row in self.uncut]

    def text(self):
        return "\n".join(self.lines())


class Watch:
    """The command on a terminal of its own, as a shell would start it."""

    def __init__(self, daemon, columns=120, rows=40):
        self.master, self.terminal = pty.openpty()
        self.screen = Screen(columns, rows)
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.terminal)
        self.process = subprocess.Popen(
            [daemon.oteld, "status", "--watch"], env={**daemon.environment, "TERM": "xterm"}, stdin=self.terminal,
            stdout=self.terminal, stderr=self.terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip

    def size(self, columns, rows):
        """The kernel tells the process by SIGWINCH."""
        self.screen.resize(columns, rows)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys.encode())

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.screen.feed(os.read(self.master, 65536).decode())

    def shows(self, pattern):
        """Waits until the screen shows this; returns the match."""
        def look():
            self.read()
            return self.screen.complete() and re.search(pattern, self.screen.text())
        try:
            return eventually(look, f"the screen shows {pattern}")
        except BaseException:
            print(self.screen.text())
            raise

    def new_frame(self):
        """Waits for a frame that was begun after this call, and for its end."""
        self.read()
        frames = self.screen.frames
        eventually(lambda: self.read() or self.screen.frames > frames and self.screen.complete(), "the screen is drawn again")

    def end(self):
        """Waits for its end; returns the exit code. The terminal is as it was before."""
        def ended():
            self.read()
            return self.process.poll() is not None
        eventually(ended, "it ends")
        self.read()
        assert self.screen.on == {"7": True, "25": True, "1049": False}
        assert termios.tcgetattr(self.terminal) == self.before
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.terminal)


@pytest.fixture
def watch(daemon):
    with contextlib.ExitStack() as stack:
        def start(**size):
            it = Watch(daemon, **size)
            stack.callback(it.close)
            return it
        yield start


def test_the_screen_follows_what_happens(daemon, watch):
    daemon.start(config({"nop": {}}))
    it = watch()
    it.shows("HEALTHY(.|\n)*no application has written a span yet")
    load(daemon, "first", spans=1234)
    it.shows(r"first +\d+ +ended.* 1,234 ")
    with Load(daemon, "second", rate=500, seconds=60):
        def started():
            return int(it.shows(r"second +\d+ +alive +\S+ +([0-9,]+) ")[1].replace(",", ""))
        before = started()
        eventually(lambda: started() > before, "its number grows")
    it.shows(r"second +\d+ +(DIED|ended)")  # It was killed: between two spans, or in one.
    it.shows(r"first +\d+ +ended.* 1,234 ")
    assert it.screen.scrolled == 0 and it.screen.on == {"7": False, "25": False, "1049": True}
    it.type("\x03")
    assert it.end() == 0


@pytest.mark.parametrize("how", ["Ctrl-C", "q", "SIGTERM", "SIGHUP"])
def test_it_leaves_the_terminal_as_it_was(daemon, watch, how):
    daemon.start(config({"nop": {}}))
    it = watch()
    it.shows("HEALTHY")
    flags = termios.tcgetattr(it.terminal)[3]
    assert not flags & (termios.ECHO | termios.ICANON) and flags & termios.ISIG
    if how.startswith("SIG"):
        it.process.send_signal(signal.Signals[how])
    else:
        it.type({"Ctrl-C": "\x03", "q": "q"}[how])
    assert it.end() == 0


def test_the_exit_code_is_the_last_verdict(daemon, watch):
    daemon.start(config({"nop": {}}))
    it = watch()
    it.shows("HEALTHY")
    daemon.stop()
    it.shows("NOT RUNNING")
    it.type("\x03")
    assert it.end() == 3


def test_a_new_size_is_taken_at_once(daemon, watch):
    daemon.start(config({"nop": {}, "debug": {}}))
    load(daemon, "some service", spans=10)
    it = watch(columns=160, rows=50)
    it.shows("some service")
    for columns, rows in ((80, 24), (60, 40), (200, 60)):
        it.size(columns, rows)
        it.new_frame()
        assert "some service" in it.screen.text()
        assert it.screen.lines() == it.screen.uncut, f"cut at {columns} columns"
    assert it.screen.scrolled == 0


@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (20, 6), (8, 4)])
def test_a_small_terminal_shows_the_beginning_and_how_to_go_on(daemon, watch, columns, rows):
    daemon.start(config({"nop": {}}))
    it = watch(columns=columns, rows=rows)
    it.shows("^" + "oteld"[:columns])
    it.new_frame()
    assert it.screen.lines()[-1].startswith("q quits"[:columns])
    assert it.screen.scrolled == 0
    it.type("\x03")
    assert it.end() == 0


def test_a_page_longer_than_the_screen_scrolls(daemon, watch):
    daemon.start(config({"nop": {}}))
    for number in range(6):
        load(daemon, f"service {number}", spans=10)
    it = watch(columns=100, rows=10)
    below = int(it.shows(r"q quits   lines above: 0, below: (\d+)")[1])
    first = it.screen.lines()[:9]
    it.type("jj")
    it.shows(r"q quits   lines above: 2, below: ")
    assert it.screen.lines()[0] == first[2]
    it.type(" " * 20)
    it.shows(rf"q quits   lines above: {below}, below: 0")
    it.type("g")
    it.shows(r"q quits   lines above: 0, below: ")
