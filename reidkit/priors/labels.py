"""Names of parsing labels, and tables that translate other label sets into LIP (MPN Sec. 3.2, tool [44]).

The pipeline speaks LIP. Parsing tools are trained on three label sets; SCHP ships a network for each:

- LIP (Look Into Person): 20 labels, the paper's choice;
- ATR: 18 labels; also the set of the usual SegFormer clothes-parsing checkpoints;
- Pascal-Person-Part: 7 labels, no clothes and no left or right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

from reidkit.data.lip import LIP_LABELS
from reidkit.errors import PriorError, unknown_name

ATR_LABELS = (
    "background",
    "hat",
    "hair",
    "sunglasses",
    "upper-clothes",
    "skirt",
    "pants",
    "dress",
    "belt",
    "left-shoe",
    "right-shoe",
    "face",
    "left-leg",
    "right-leg",
    "left-arm",
    "right-arm",
    "bag",
    "scarf",
)
PASCAL_LABELS = (
    "background",
    "head",
    "torso",
    "upper-arms",
    "lower-arms",
    "upper-legs",
    "lower-legs",
)
LabelSet = Literal["lip", "atr", "pascal"]
LABEL_SETS: dict[LabelSet, tuple[str, ...]] = {"lip": LIP_LABELS, "atr": ATR_LABELS, "pascal": PASCAL_LABELS}

# Step 1 of Sec. 3.2: which labels show that the head and at least one leg are in the picture.
HEAD_LABELS = (1, 2, 4, 13)  # hat, hair, sunglasses, face
LEG_LABELS = (8, 9, 16, 17, 18, 19)  # socks, pants, legs, shoes: in LIP trousers hide the legs

# Labels that LIP lacks. A bag becomes background, because a LIP parser ignores bags too (Fig. 4a): the
# segmentation map brings them back. A belt is clothing that proves neither a head nor a leg.
# Pascal's limbs have no side; they are written as left ones, and nothing in the pipeline asks for the side.
TO_LIP = {name: name for name in LIP_LABELS} | {
    "belt": "upper-clothes",
    "bag": "background",
    "head": "face",
    "torso": "upper-clothes",
    "upper-arms": "left-arm",
    "lower-arms": "left-arm",
    "upper-legs": "left-leg",
    "lower-legs": "left-leg",
}


def to_lip_table(names: Sequence[str], source: str = "the label set") -> np.ndarray:
    """[len(names)] uint8: the LIP label of each label of another set, looked up by name.

    Names are compared in lower case, with spaces and underscores read as hyphens ("Left shoe", "left_shoe").
    Raises PriorError if a name has no LIP counterpart.
    """
    table = np.zeros(len(names), np.uint8)
    for label, name in enumerate(names):
        key = str(name).strip().lower().replace(" ", "-").replace("_", "-")
        if key not in TO_LIP:
            raise PriorError(
                f"{source}: label {label} is named {name!r}, which has no LIP counterpart; "
                f"expected names of the LIP, ATR or Pascal-Person-Part sets: {', '.join(TO_LIP)}"
            )
        table[label] = LIP_LABELS.index(TO_LIP[key])
    return table


@cache
def label_table(label_set: LabelSet) -> np.ndarray:
    """[L] uint8: LIP label of each label of `"lip"`, `"atr"` or `"pascal"` (`label_table("atr")[16] == 0`)."""
    if label_set not in LABEL_SETS:
        raise unknown_name("label set", label_set, LABEL_SETS)
    table = to_lip_table(LABEL_SETS[label_set], label_set)
    table.flags.writeable = False  # shared between calls
    return table
