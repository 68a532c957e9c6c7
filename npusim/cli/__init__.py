"""The command line. Bad input is one line on standard error and exit code 2; nothing else exits 0."""

from __future__ import annotations

import sys

from npusim.errors import NpusimError


def main() -> None:
    """Entry point of the console script `npusim`."""
    from npusim.cli.commands import app

    try:
        app()
    except NpusimError as error:
        print(f"npusim: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except KeyboardInterrupt:
        print("npusim: interrupted", file=sys.stderr)
        sys.exit(130)
