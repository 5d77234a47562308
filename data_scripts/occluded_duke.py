"""Occluded-DukeMTMC: from a copy of DukeMTMC-reID that you already have to data/occluded-duke.

    python data_scripts/occluded_duke.py --duke data/dukemtmc --lists Occluded_Duke --root data
    python data_scripts/occluded_duke.py --archive Occluded_Duke.zip --root data

lists: the folder with the authors' train.list, query.list and gallery.list. The images are DukeMTMC-reID's, which
its authors withdrew in June 2019: the people filmed on their campus had not consented to it. This script
downloads nothing and names no copy. For new work choose another set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reidkit.data.copies.prepare import describe, run_script
from reidkit.data.place import shown_root
from reidkit.data.sets.duke import build_occluded_duke
from reidkit.errors import ReIDKitError


def main() -> int:
    """Read the arguments, build or unpack, compare the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duke", help="folder of DukeMTMC-reID")
    parser.add_argument("--lists", help="folder with train.list, query.list, gallery.list")
    parser.add_argument("--archive", help="an archive of the finished layout, instead of --duke and --lists")
    parser.add_argument("--root", default=shown_root(), help="where data sets live (default: %(default)s)")
    args = parser.parse_args()
    if bool(args.duke) != bool(args.lists):
        parser.error("--duke and --lists belong together")
    try:
        if args.duke is None:
            return run_script("occluded-duke", args.archive, args.root)
        text, ok = describe(build_occluded_duke(args.duke, args.lists, Path(args.root) / "occluded-duke"))
        print(text)
        return 0 if ok else 1
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
