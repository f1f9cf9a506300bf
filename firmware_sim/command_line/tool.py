"""Runs a command-line tool, and ends it quietly where a tool is expected to."""

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

_CLOSED_PIPE = 128 + 13  # as if SIGPIPE had ended it
_INTERRUPTED = 128 + 2


def run(main: Callable[[Any], Any]) -> NoReturn:
    """`app.run`, without tracebacks for a closed pipe, a full disk or Ctrl-C.

    A file's name may have bytes that are no text in this locale: they are printed as they are.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # it is closed: a file that the tool opens would take its place
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is not None:
        with contextlib.suppress(AttributeError):  # not a file
            sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]

    def guarded(argv: Any) -> Any:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TensorFlow tells how long it saved
        status = main(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # at its own end, Python would only print a traceback
        return status

    try:
        app.run(guarded)
    except BrokenPipeError:
        _end(_CLOSED_PIPE)
    except KeyboardInterrupt:
        _end(_INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        with contextlib.suppress(OSError):
            print(f"{where}{error.strerror}: free some space, and start again", file=sys.stderr)
        _end(1)
    raise AssertionError("app.run returns")


def _end(status: int) -> NoReturn:
    """Ends the process; what could not be written stays unwritten."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, 1)
    sys.exit(status)


def share_heap() -> None:
    """Lets the threads that begin from now on share one heap, if the C library is glibc.

    Otherwise each keeps the memory of the largest task that it ever had.
    """
    arenas = -8  # M_ARENA_MAX of malloc.h
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(arenas, 1)
