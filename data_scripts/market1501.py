"""Market-1501: from the downloaded archive to data/market1501.

    python data_scripts/market1501.py --archive Market-1501-v15.09.15.zip --root data

Without --archive it prints the official page. A killed run leaves nothing half done: call it again.
"""

from __future__ import annotations

import sys

from reidkit.data.copies.prepare import script_main

if __name__ == "__main__":
    sys.exit(script_main("market1501", __doc__))
