"""Keeps callers' content out of what vLLM and its libraries log.

While the service starts, everything is logged as it comes: nobody's content is there yet, and what
is said about memory, devices and files is what an operator needs. From the first caller's request
on, no text gets through that may hold a piece of one: a message stays where it is a constant of
the code that logs it, its numbers stay, other arguments become `…`, and an error is told by its
types and places. vLLM quotes prompts, schemas and tool calls in all four.

The phase is a file, `starting` in the state folder, because it is shared with vLLM's engine
processes: where it cannot be made, nothing is said from the start.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

STARTING = "WARDROBE_STARTING"
"""Environment variable of the service's processes: where that file is."""
WITHHELD = "(a text is withheld: it may hold a caller's content)"

RecordFactory = Callable[..., logging.LogRecord]


def install() -> None:
    """From now on, for every logger of this process, and for what ends it or one of its threads.

    vLLM has it called in each of its own.
    """
    inner = logging.getLogRecordFactory()
    if isinstance(inner, ContentFreeRecords) or STARTING not in os.environ:
        return
    records = ContentFreeRecords(inner, Path(os.environ[STARTING]))
    logging.setLogRecordFactory(records)
    usual, usual_in_thread = sys.excepthook, threading.excepthook

    def tell(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if not records.sealed:
            usual(kind, error, at)
        elif sys.stderr is not None:
            sys.stderr.write(f"{outline(error)}\n")

    def tell_in_thread(args: threading.ExceptHookArgs) -> None:
        if records.sealed and args.exc_value is not None:
            tell(args.exc_type, args.exc_value, args.exc_traceback)
        else:
            usual_in_thread(args)

    sys.excepthook, threading.excepthook = tell, tell_in_thread


class ContentFreeRecords:
    """A record factory that empties what `inner` makes once `starting` is gone."""

    def __init__(self, inner: RecordFactory, starting: Path) -> None:
        self._inner = inner
        self._starting = starting
        self._sealed = False

    def __call__(self, *args: Any, **named: Any) -> logging.LogRecord:
        """As `logging.LogRecord`."""
        record = self._inner(*args, **named)
        if self.sealed:
            empty(record, constants=_constants(record, inspect.currentframe()))
        return record

    @property
    def sealed(self) -> bool:
        """Whether there was a caller; once true, it stays so."""
        self._sealed = self._sealed or not self._starting.exists()
        return self._sealed


def empty(record: logging.LogRecord, *, constants: tuple[object, ...]) -> None:
    """Takes out of a record what is not one of its code's `constants`, a number or a place."""
    if record.msg in constants:
        record.msg = _filled(record.msg, record.args)
    else:
        record.msg = WITHHELD
    record.args = ()
    record.stack_info = None
    if record.exc_info is not None and record.exc_info[1] is not None:
        record.exc_text = outline(record.exc_info[1])
    record.exc_info = None


def _filled(message: str, args: Any) -> str:
    """The message with its numbers, and `…` for anything else."""
    values = args if isinstance(args, tuple) else ()
    if not values:
        return message
    kept = tuple(value if isinstance(value, int | float) else "…" for value in values)
    with suppress(TypeError, ValueError):  # as with `%d` for a text
        return message % kept
    return message


def _constants(record: logging.LogRecord, frame: FrameType | None) -> tuple[object, ...]:
    """Constants of the function that logs; none where it is not among the callers."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename == record.pathname and frame.f_lineno == record.lineno:
            return code.co_consts
        frame = frame.f_back
    return ()


def outline(error: BaseException) -> str:
    """An error and its causes as types and places, without their words."""
    return "\n".join(_lines(error))


def _lines(error: BaseException) -> Iterator[str]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for one in reversed(chain):
        for frame in traceback.extract_tb(one.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        yield f"{type(one).__module__}.{type(one).__qualname__}"
