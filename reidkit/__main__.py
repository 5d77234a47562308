"""`reidkit` and `python -m reidkit`: the command line, whose seconds of imports can be interrupted too."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point. Ctrl-C before the first command begins is one line and exit code 130 as well."""
    try:
        from reidkit.cli import main as begin
    except KeyboardInterrupt:
        print("interrupted: nothing had begun", file=sys.stderr)
        os._exit(130)  # half imported, an orderly end could fail
    begin()


if __name__ == "__main__":
    main()
