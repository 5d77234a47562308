# %% [markdown]
# # 06 Solutions
#
# Worked solutions of the exercises in [06 Priors from real
# tools](../06_priors_from_real_tools.ipynb). Try them there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** ATR's label 16 is the bag. LIP has no bag: a LIP parser leaves it out, so it becomes
# background. In a *union* that costs nothing, because the segmenter finds the person with all that
# is carried.

# %%
from exercises import check_exercise

answer_1 = 0
print("1:", check_exercise("06.1", answer_1))

# %% [markdown]
# **2.** Pascal's labels that count as legs: by name, counted from 0.

# %%
from reidkit.priors.labels import LABEL_SETS, LEG_LABELS, label_table

names = LABEL_SETS["pascal"]
print(*(f"{label}: {name}" for label, name in enumerate(names)), sep="\n")
answer_2 = [i for i, lip in enumerate(label_table("pascal")) if lip in LEG_LABELS]
print("2:", answer_2, check_exercise("06.2", answer_2))

# %% [markdown]
# **3.** Background, head, upper body, lower body, shoes as LIP numbers: something that counts as
# head, something that counts as neither, and twice something that counts as legs.

# %%
from reidkit.priors.labels import LIP_LABELS

answer_3 = [
    LIP_LABELS.index(n) for n in ("background", "face", "upper-clothes", "left-leg", "left-shoe")
]
print("3:", answer_3, check_exercise("06.3", answer_3))
