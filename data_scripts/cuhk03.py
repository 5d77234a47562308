"""CUHK03, new protocol: from the downloaded archive to data/cuhk03.

    python data_scripts/cuhk03.py --archive cuhk03-np.zip --root data

The archive is either CUHK03-NP (folders), or the original one with cuhk-03.mat; the latter needs the protocol's
two files as well, and its images are written out once (minutes, with a bar):

    python data_scripts/cuhk03.py --archive cuhk03_release.zip --protocol cuhk03_new_protocol_config_*.mat
"""

from __future__ import annotations

import sys

from reidkit.data.copies.prepare import run_script, script_parser
from reidkit.errors import ReIDKitError


def main() -> int:
    """Read the arguments, unpack, compare the counts."""
    parser = script_parser(__doc__)
    parser.add_argument("--protocol", nargs="*", default=[], help="cuhk03_new_protocol_config_<boxes>.mat files")
    parser.add_argument("--boxes", choices=("detected", "labeled"), help="read only one kind of boxes (default: both)")
    args = parser.parse_args()
    loads = [f"cuhk03-{args.boxes}"] if args.boxes else None
    try:
        return run_script("cuhk03", args.archive, args.root, extra=args.protocol, loads=loads, decode=args.decode)
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
