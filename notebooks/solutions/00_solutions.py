# %% [markdown]
# # 00 Solutions
#
# Worked solutions of the exercises in [00 Start here](../00_start_here.ipynb). Try them there
# first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** Two right images stand at ranks 2 and 4 of a list. What is its AP? The mean of the
# precisions there.

# %%
from exercises import check_exercise

answer_1 = (1 / 2 + 2 / 4) / 2
print("1:", check_exercise("00.1", answer_1))

# %% [markdown]
# **2.** Four right images, the first at rank 1: the AP is lowest if the others come last of 100, at
# ranks 98, 99 and 100.

# %%
answer_2 = (1 / 1 + 2 / 98 + 3 / 99 + 4 / 100) / 4
print("2:", check_exercise("00.2", answer_2))
