# %% [markdown]
# # 02 Solutions
#
# Worked solutions of the exercises in [02 Coarse priors](../02_coarse_priors.ipynb). Try them there
# first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

DATASET = {"name": "sidewalk", "size": "tiny"}
ROOT = None  # the kit's data/
PRESET = "quick"
SEED = 0

# %% [markdown]
# **1.** The mask of a resized union on a 4 x 3 grid: at least half of a cell is body (step 4), then
# each set cell sets its right neighbour too (step 5).

# %%
import numpy as np
from exercises import check_exercise

share = np.array([[0.0, 0.1, 0.0], [0.4, 0.6, 0.1], [0.2, 0.5, 0.9], [0.1, 0.3, 0.2]])
answer_1 = share >= 0.5
answer_1[:, 1:] |= share[:, :-1] >= 0.5
print(answer_1.astype(int))
print("1:", check_exercise("02.1", answer_1, share=share))

# %% [markdown]
# **2.** Its boundaries: rows 1 and 2 of four are occupied, counted from 0.

# %%
answer_2 = (1 / 4, (2 + 1) / 4)
print("2:", check_exercise("02.2", answer_2, share=share))

# %% [markdown]
# **3.** The rows of the ROI with `threshold=0.9`, for an example image. (Here an image of the tiny
# set: the number is another one than in the notebook.)

# %%
from reidkit.data import load_dataset
from reidkit.priors import image_paths, open_source
from reidkit.priors.coarse import prior_steps

ds = load_dataset(root=ROOT, **DATASET)
parsing, segmentation = open_source(ds, "sidewalk").maps(image_paths(ds, "train")[6:7])[0]
GRID = (24, 8)
for threshold in (0.5, 0.9):
    steps = prior_steps(parsing, segmentation, GRID, threshold=threshold)
    answer_3 = round((steps.bottom - steps.top) * GRID[0])
    print(f"threshold {threshold}: {answer_3} rows")
example = {"parsing": parsing, "segmentation": segmentation, "grid": GRID}
print("3:", check_exercise("02.3", answer_3, **example))
