# %% [markdown]
# # 10 Solutions
#
# Worked solutions of the exercises in [10 Part attention](../10_part_attention.ipynb). Try them
# there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** A flat map: each place holds the same, so the share of the sum is the share of the area.

# %%
from exercises import check_exercise

flat_energy = 5.4 / 100
print("1:", check_exercise("10.1", flat_energy))

# %% [markdown]
# **2.** `similarity(a, b)`: the cosine similarity of two maps, as of two long vectors.

# %%
import numpy as np


def similarity(a, b):
    a, b = a.ravel(), b.ravel()
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


print("2:", check_exercise("10.2", similarity))

# %% [markdown]
# **3.** HiResCAM: gradient times response, cell by cell, summed over channels; no mean over cells.


# %%
def hires(F, gradient):
    return (gradient * F).sum(1).relu()


print("3:", check_exercise("10.3", hires))
