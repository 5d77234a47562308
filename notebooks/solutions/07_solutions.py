# %% [markdown]
# # 07 Solutions
#
# Worked solutions of the exercises in [07 CGPN step by step](../07_cgpn_step_by_step.ipynb). Try
# them there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** Coarse groups of a branch with six stripes: runs of three, four and five adjacent stripes.

# %%
from exercises import check_exercise

runs = {size: 6 - size + 1 for size in (3, 4, 5)}
answer_1 = sum(runs.values())
print("1:", runs, check_exercise("07.1", answer_1))

# %% [markdown]
# **2.** The test feature of CGPN-2: one global feature in each of three branches, and 2 + 3 + 4
# stripes, 256 numbers each.

# %%
answer_2 = (3 + 2 + 3 + 4) * 256
print("2:", check_exercise("07.2", answer_2))

# %% [markdown]
# **3.** `teachers(maps)`: the two halves of the map, each pooled by its maximum.

# %%
import torch


def teachers(maps):
    upper, lower = maps.chunk(2, dim=2)  # [B, c, h/2, w] each
    return torch.stack([upper.amax((2, 3)), lower.amax((2, 3))], dim=1)


print("3:", check_exercise("07.3", teachers))
