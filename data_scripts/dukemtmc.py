"""DukeMTMC-reID: from an archive that you already have to data/dukemtmc.

    python data_scripts/dukemtmc.py --archive DukeMTMC-reID.zip --root data

The authors withdrew the set in June 2019: the people filmed on their campus had not consented to it. This
script downloads nothing and names no copy. For new work choose another set.
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
        return run_script("dukemtmc", args.archive, args.root)
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
