"""Market-1501: from the downloaded archive to data/market1501.

    python data_scripts/market1501.py --archive Market-1501-v15.09.15.zip --root data

Without --archive it prints the official page. A killed run goes on where it stopped.
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
        return run_script("market1501", args.archive, args.root)
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
