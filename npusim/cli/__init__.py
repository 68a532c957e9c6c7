"""The command line. Bad input is one line on standard error and exit code 2; nothing else exits 0."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from npusim.errors import NpusimError
from npusim.threads import one_thread

RARELY = 200_000
"""objects made before the next search for cycles: hardly any are in cycles, and to search after each 700, as
is usual, takes a tenth of the time of a run"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script `npusim`; `arguments` are those of the process if None."""
    gc.set_threshold(RARELY, 10, 10)
    one_thread()
    import typer

    from npusim.cli.app import app

    usage_error = typer.BadParameter.__mro__[1]  # click's, or typer's own copy of it
    assert issubclass(usage_error, Exception)
    try:
        sys.exit(app(args=arguments, prog_name="npusim", standalone_mode=False))
    except NpusimError as error:
        _refuse(str(error))
    except MemoryError:
        _refuse("the problem does not fit into this computer's memory; make it smaller")
    except usage_error as error:
        _refuse(_usage(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        print("npusim: interrupted", file=sys.stderr)
        sys.exit(130)


def _refuse(message: str) -> None:
    print(f"npusim: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _usage(error: BaseException) -> str:
    """A mistake in the use of options and arguments, as one line with the command it belongs to."""
    message = str(getattr(error, "message", "")) or str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "npusim"
    if type(error).__name__.startswith("NoArgs"):
        return f"a command is missing; see {command} --help"
    shown = getattr(error, "format_message", lambda: message)().rstrip(".")
    return f"{shown[:1].lower()}{shown[1:]}{'' if shown.endswith('?') else ';'} see {command} --help"
