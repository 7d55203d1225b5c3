"""The reader of workbooks, run apart: what a stranger's file does to it ends it alone."""

import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO

from app import workbooks

# All that may be in a workbook fits: 6 million cells of shared texts take 610 MB and 30 seconds.
_MAX_MEMORY = 1024 * 1024 * 1024
_MAX_SECONDS = 120
# A reader at work is seldom silent for longer than it takes to open a sheet.
_SILENCE_SECONDS = 180
# It counts what it says; who has taken it over would not.
_BESIDE_TEXT, _FRAME_COSTS = 32 * 1024 * 1024, 64


class ReaderLost(Exception):
    """The reader died, by its limits or otherwise, or was silent for too long and was ended."""


class Reader:
    """A process that reads one workbook; it ends by itself, or when nobody refers to it."""

    def __init__(self, content: bytes, *, max_rows: int) -> None:
        """Start it, and hand the workbook over."""
        self._process = _start(_MAX_MEMORY, _MAX_SECONDS, max_rows, len(content))
        self._frames: SimpleQueue[bytes | None] = SimpleQueue()
        receiving = threading.Thread(
            target=_receive, args=(self._process, self._frames), name="workbook", daemon=True
        )
        receiving.start()
        weakref.finalize(self, self._process.kill)
        self._tell(content)

    def ask(self) -> None:
        """Ask for the next sheet."""
        self._tell(b"\n")

    def take(self) -> bytes:
        """Give the next answer, which waits here however slowly it is asked for; or ReaderLost."""
        with suppress(Empty):
            frame = self._frames.get(timeout=_SILENCE_SECONDS)
            if frame is not None:
                return frame
        self._process.kill()
        raise ReaderLost

    def finish(self) -> None:
        """Ask for nothing more: it ends after what it is at, and gives its memory back."""
        with suppress(OSError):
            _stdin(self._process).close()

    def _tell(self, said: bytes) -> None:
        # What a dead reader answered last, if anything, is still to be taken.
        with suppress(OSError):
            _stdin(self._process).write(said)
            _stdin(self._process).flush()


def _start(*arguments: int) -> subprocess.Popen[bytes]:
    """Start the program of the reader, which gets neither our settings nor our open files."""
    given = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(  # noqa: S603  (a program of ours, and numbers)
        [sys.executable, "-S", "-P", workbooks.__file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, **given},
    )


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None  # noqa: S101  (it was started with a pipe)
    return process.stdin


def _receive(process: subprocess.Popen[bytes], frames: SimpleQueue[bytes | None]) -> None:
    """Take its answers as they come, so that it waits for nobody; see to its end."""
    answers = process.stdout
    assert answers is not None  # noqa: S101  (it was started with a pipe)
    left = workbooks.MAX_TEXT + _BESIDE_TEXT
    with answers:
        while len(length := answers.read(workbooks.LENGTH.size)) == workbooks.LENGTH.size:
            (size,) = workbooks.LENGTH.unpack(length)
            left -= size + _FRAME_COSTS
            if size > workbooks.MAX_FRAME or left < 0:
                break
            frames.put(answers.read(size))
    process.kill()
    process.wait()
    with suppress(OSError):
        _stdin(process).close()
    frames.put(None)
