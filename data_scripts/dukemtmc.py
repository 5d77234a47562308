"""DukeMTMC-reID: from an archive that you already have to data/dukemtmc.

    python data_scripts/dukemtmc.py --archive DukeMTMC-reID.zip --root data

The authors withdrew the set in June 2019: the people filmed on their campus had not consented to it. This
script downloads nothing and names no copy. For new work choose another set.
"""

from __future__ import annotations

import sys

from reidkit.data.copies.prepare import script_main

if __name__ == "__main__":
    sys.exit(script_main("dukemtmc", __doc__))
