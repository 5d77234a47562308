# %% [markdown]
# # 05 Solutions
#
# Worked solutions of the exercises in [05 MPN's ablations](../05_mpn_ablations.ipynb). Try them
# there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** Differences +1, +2, +3 over three seeds: mean 2, standard deviation 1. The lower end of the
# 95 % paired interval ($t_2 = 4.303$).

# %%
import numpy as np
from exercises import check_exercise

d = np.array([1.0, 2.0, 3.0])
answer_1 = d.mean() - 4.303 * d.std(ddof=1) / np.sqrt(len(d))
print(f"{answer_1:.2f}")
print("1:", check_exercise("05.1", answer_1))

# %% [markdown]
# **2.** 24 rows, K = 9: the map is resized to the next multiple of 9, which is 27.

# %%
answer_2 = -(-24 // 9)
print("2:", check_exercise("05.2", answer_2))

# %% [markdown]
# **3.** Separate convs, no penalty between them, class-wise alignment: Naive MTL with FSA. The
# table of components shows it.

# %%
from reidkit.models.zoo import VARIANTS

separate = [
    n
    for n, v in VARIANTS.items()
    if v.loss.alignment == "class" and n.split("-")[0] in ("fsa", "psa", "mpn")
]
answer_3 = next(
    n for n in separate if not VARIANTS[n].config.share and not VARIANTS[n].config.soft_share
)
print("3:", answer_3, check_exercise("05.3", answer_3))
