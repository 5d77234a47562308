# %% [markdown]
# # 03 Solutions
#
# Worked solutions of the exercises in [03 MPN step by step](../03_mpn_step_by_step.ipynb). Try them
# there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** The parameters that channel attention adds to K = 6 heads: two convs with bias (512 -> 128
# -> 512), each with BN (two numbers a channel).

# %%
from exercises import check_exercise

d, small = 512, 128
convs = (d * small + small) + (small * d + d)
norms = 2 * small + 2 * d
attention_parameters = 6 * (convs + norms)
print(f"{attention_parameters:,}")
print("1:", check_exercise("03.1", attention_parameters))

# %% [markdown]
# **2.** A margin for which all six anchors of the circle example violate. A cosine distance lies
# between 0 and 2, so positive minus negative is never below -2: any margin above 2 will do.

# %%
import numpy as np
import torch

angles = np.deg2rad([20, 60, -5, 90, 200, 216])
points = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], 1), dtype=torch.float32)
people = [0, 0, 1, 1, 2, 2]
margin = 2.1
print("2:", check_exercise("03.2", margin, points=points, people=people))

# %% [markdown]
# **3.** `batch_wise(h, g)`: the cosine distance between the two batch means.


# %%
def batch_wise(h, g):
    a, b = h.mean(0), g.mean(0)
    return 1 - a @ b / (a.norm() * b.norm())


print("3:", check_exercise("03.3", batch_wise))
