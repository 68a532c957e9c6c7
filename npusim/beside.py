"""Independent pieces of work, some of them done in a second process if there is a core for it.

The second process is a copy of this one, made when all that the work needs is there, so that only numbers of
pieces and results pass between the two. Processes are copied that way on Linux; elsewhere there is only the
first.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
NUMBER = struct.Struct("=H")
MOST = 1 << 14
"""numbers that a pipe holds"""


def in_two(work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    """`work` on every piece, from the last one on. An error is that of the first piece that has one, as if
    there were one process."""
    many = len(pieces)
    if not 2 <= many <= MOST or sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        return [work(piece) for piece in pieces]
    todo, end = os.pipe()
    os.write(end, b"".join(NUMBER.pack(number) for number in reversed(range(many))))
    os.close(end)
    context = get_context("fork")
    results, far = context.Pipe(duplex=False)
    process = context.Process(target=_second, args=(work, pieces, todo, far), daemon=True)
    process.start()
    far.close()
    try:
        found = dict(_done(work, pieces, todo))
        found.update(_received(results))
    finally:
        process.kill()  # interrupted, or done anyway
        process.join()
        os.close(todo)
    return [found[number] if number in found else work(pieces[number]) for number in range(many)]


def _second(work: Callable[[T], R], pieces: Sequence[T], todo: int, far: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends both
    for result in _done(work, pieces, todo):
        far.send(result)


def _done(work: Callable[[T], R], pieces: Sequence[T], todo: int) -> Iterator[tuple[int, R]]:
    """The results for those pieces that the other process does not take first; errors are met again later."""
    while taken := os.read(todo, NUMBER.size):
        (number,) = NUMBER.unpack(taken)
        try:
            yield number, work(pieces[number])
        except Exception:
            continue


def _received(results: Connection) -> Iterator[tuple[int, R]]:
    """What the second process found, up to its end, whatever that was."""
    while True:
        try:
            yield results.recv()
        except EOFError:
            return
