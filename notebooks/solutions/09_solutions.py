# %% [markdown]
# # 09 Solutions
#
# Worked solutions of the exercises in [09 CGPN's ablations](../09_cgpn_ablations.ipynb). Try them
# there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

# %% [markdown]
# **1.** Differences +1, +2, +3 over three seeds: half the length of the 95 % t interval ($t_2$ =
# 4.303, standard deviation 1).

# %%
from exercises import check_exercise

answer_1 = 4.303 * 1 / 3**0.5
print(f"{answer_1:.2f}")
print("1:", check_exercise("09.1", answer_1))

# %% [markdown]
# **2.** By how many points of mAP does CGPN lead CGPN-1 on CUHK03, in the paper's Table 3?

# %%
from reidkit.reporting import report

table = report.paper_table("cgpn-table3").query("metric == 'mAP' and dataset == 'cuhk03-labeled'")
value = table.set_index("variant")["value"]
answer_2 = value["cgpn"] - value["cgpn-1"]
print(f"{value['cgpn']} - {value['cgpn-1']} = {answer_2:.1f}")
print("2:", check_exercise("09.2", answer_2))

# %% [markdown]
# **3.** The row of the paper that `reidkit train cgpn-b13` trains.

# %%
rows = report.paper_table("cgpn-table4").set_index("variant").row
answer_3 = rows["cgpn-b13"].iloc[0]
print("3:", answer_3, check_exercise("09.3", answer_3))
