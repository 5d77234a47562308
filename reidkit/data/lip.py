"""The 20 labels of Look Into Person (LIP), which human parsing tools write (MPN Sec. 3.2), and a colour for each."""

import numpy as np

LIP_LABELS = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper-clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "jumpsuits",
    "scarf",
    "skirt",
    "face",
    "left-arm",
    "right-arm",
    "left-leg",
    "right-leg",
    "left-shoe",
    "right-shoe",
)

# Related labels in related colours, all different.
LIP_COLOURS = np.array(
    [
        [25, 25, 30],
        [230, 159, 0],
        [150, 90, 30],
        [240, 228, 66],
        [120, 120, 0],
        [0, 114, 178],
        [90, 60, 160],
        [0, 70, 120],
        [160, 160, 160],
        [0, 158, 115],
        [0, 110, 90],
        [200, 60, 60],
        [100, 200, 160],
        [245, 205, 170],
        [86, 180, 233],
        [140, 210, 245],
        [204, 121, 167],
        [230, 170, 200],
        [110, 60, 90],
        [150, 90, 120],
    ],
    dtype=np.uint8,
)
