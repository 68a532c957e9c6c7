"""Work in two processes: results in order, errors as if there were one, whatever becomes of the second."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from npusim.beside import in_two
from npusim.errors import GraphError

two = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="there is one process only"
)


def slowly(piece):
    time.sleep(0.02)
    return piece * piece, os.getpid()


@pytest.mark.parametrize("many", [0, 1, 2, 40])
def test_results_come_in_the_order_of_the_pieces(many):
    assert [square for square, _ in in_two(slowly, range(many))] == [n * n for n in range(many)]


@two
def test_both_processes_do_a_part_of_it():
    assert len({process for _, process in in_two(slowly, range(40))}) == 2


def test_the_error_is_that_of_the_first_piece_that_has_one():
    """Whichever process met it; GraphError, as some others, cannot be handed from one to another."""

    def fails(piece):
        if piece in (7, 11, 39):
            raise GraphError("rule", f"piece {piece}")
        return slowly(piece)

    with pytest.raises(GraphError, match="piece 7"):
        in_two(fails, range(40))


@two
def test_what_a_process_that_was_ended_had_begun_is_done_by_the_other():
    first = os.getpid()

    def ended(piece):
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return slowly(piece)

    assert [square for square, _ in in_two(ended, range(40))] == [n * n for n in range(40)]


@pytest.mark.parametrize("cores", [{0}, {0, 1, 2}])
def test_one_process_does_all_where_there_is_one_core(monkeypatch, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores, raising=False)
    processes = {process for _, process in in_two(slowly, range(30))}
    assert processes == {os.getpid()} if len(cores) == 1 else os.getpid() in processes
