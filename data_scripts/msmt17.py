"""MSMT17, V1 or V2: from the downloaded archive to data/msmt17.

    python data_scripts/msmt17.py --archive MSMT17_V1.tar.gz --root data

Without --archive it prints the official page, where a signed agreement is asked for. A killed run leaves
nothing half done: call it again.
"""

from __future__ import annotations

import sys

from reidkit.data.copies.prepare import script_main

if __name__ == "__main__":
    sys.exit(script_main("msmt17", __doc__))
