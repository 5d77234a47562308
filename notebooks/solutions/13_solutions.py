# %% [markdown]
# # 13 Solutions
#
# Worked solutions of the exercises in [13 Look further: scale, errors in the priors,
# cost](../13_look_further.ipynb). Try them there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** The standard error of a share p of n queries is the square root of p (1 - p) / n.

# %%
from exercises import check_exercise

answer_1 = 100 * (0.5 * 0.5 / 400) ** 0.5
print("1:", answer_1, check_exercise("13.1", answer_1))

# %% [markdown]
# **2.** MGN's parameters at test time over PCB's, from the paper's Table 9.

# %%
from reidkit.reporting import report

table = (
    report.paper_table("mpn-table9")
    .query("metric == 'testing parameters (M)'")
    .set_index("variant")["value"]
)
answer_2 = table["mgn"] / table["pcb"]
print(f"{table['mgn']} / {table['pcb']} = {answer_2:.2f}")
print("2:", check_exercise("13.2", answer_2))

# %% [markdown]
# **3.** Five scales without any difference: the first sign is what it is, and each of the other
# four agrees with it half of the time. (If scales shared nothing. Ours share the code and partly
# the data, so five equal signs say somewhat less.)

# %%
answer_3 = 0.5**4
print("3:", answer_3, check_exercise("13.3", answer_3))
