# %% [markdown]
# # 01 Solutions
#
# Worked solutions of the exercises in [01 Data and the misalignment
# problem](../01_data_and_misalignment.ipynb). Try them there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** K = 8 stripes, a box that is 5 % too high: a stripe is 1/8 high, so the share that changes
# its stripe is the shift over the stripe's height.

# %%
from exercises import check_exercise

answer_1 = 0.05 / (1 / 8)
print("1:", check_exercise("01.1", answer_1))

# %% [markdown]
# **2.** Market-1501 (12,936 training images) enlarged five times, batches of 6 x 8: whole batches
# of an independent epoch.

# %%
answer_2 = 12_936 * 5 // (6 * 8)
print("2:", check_exercise("01.2", answer_2))

# %% [markdown]
# **3.** A function that says which images the protocol removes from a query's list: junk, and the
# same person under the same camera.


# %%
def answer_3(g_pids, g_camids, pid, camid):
    return (g_pids == -1) | ((g_pids == pid) & (g_camids == camid))


print("3:", check_exercise("01.3", answer_3))
