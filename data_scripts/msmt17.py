"""MSMT17, V1 or V2: from the downloaded archive to data/msmt17.

    python data_scripts/msmt17.py --archive MSMT17_V1.tar.gz --root data

Without --archive it prints the official page, where a signed agreement is asked for. A killed run goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import sys

from reidkit.data.prepare import run_script
from reidkit.errors import ReIDKitError


def main() -> int:
    """Read the arguments, unpack, compare the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", help="the downloaded file (zip, tar or 7z); without it the official page is named")
    parser.add_argument("--root", default="data", help="where data sets live (default: data)")
    args = parser.parse_args()
    try:
        return run_script("msmt17", args.archive, args.root)
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
