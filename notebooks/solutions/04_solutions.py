# %% [markdown]
# # 04 Solutions
#
# Worked solutions of the exercises in [04 Train and evaluate
# MPN](../04_train_and_evaluate_mpn.ipynb). Try them there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** Right images at ranks 2 and 3. The trapezoid AP: at each, the mean of the precision there
# and one place earlier.

# %%
from exercises import check_exercise

trapezoid_ap = ((0 / 1 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2
print("1:", check_exercise("04.1", trapezoid_ap))

# %% [markdown]
# **2.** `rank_k(first_hits, k)`: the share of queries whose first right image is among the first k.


# %%
def rank_k(first_hits, k):
    return (first_hits <= k).mean()


print("2:", check_exercise("04.2", rank_k))

# %% [markdown]
# **3.** How many of the paper's 70 epochs run at a learning rate below 0.0005? Warm-up and steps
# are in the recipe; counting is enough.

# %%
from reidkit.training import recipe_for

paper = recipe_for("mpn-no-ca", "paper")
rates = [paper.lr * paper.lr_factor(epoch, 1) for epoch in range(paper.epochs)]
for rate in dict.fromkeys(round(rate, 6) for rate in rates):
    print(f"{rate:g}: {sum(abs(r - rate) < 1e-6 for r in rates)} epochs")
epochs_below = sum(rate < 0.0005 for rate in rates)
print("3:", check_exercise("04.3", epochs_below))
