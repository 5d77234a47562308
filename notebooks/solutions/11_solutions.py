# %% [markdown]
# # 11 Solutions
#
# Worked solutions of the exercises in [11 Retrieval and errors](../11_retrieval_and_errors.ipynb).
# Try them there first.

# %%
import sys
from pathlib import Path

sys.path.insert(0, "..")  # the checkers stand beside the lessons

DATASET = {"name": "sidewalk", "size": "small"}
ROOT = None  # the kit's data/
PRESET = "quick"
SEED = 0
RUNS = Path("../../runs")
SHIPPED = Path("../../results/sidewalk/checkpoints")

# %% [markdown]
# **1.** Right images at ranks 1 and 4, nothing else. Step AP?

# %%
from exercises import check_exercise

step_ap = (1 / 1 + 2 / 4) / 2
print("1:", check_exercise("11.1", step_ap))

# %% [markdown]
# **2.** The protocol's rule for one gallery image.


# %%
def ignored(q_pid, q_camid, g_pid, g_camid):
    return g_pid == -1 or (g_pid == q_pid and g_camid == q_camid)


print("2:", check_exercise("11.2", ignored))

# %% [markdown]
# **3.** For how many queries is MPNo's first right image at ranks 2 to 5? The ranking knows the
# rank of each first hit.

# %%
from reidkit.data import load_dataset
from reidkit.evaluation import evaluate_ranking
from reidkit.panels.kit.runs import open_runs
from reidkit.training import obtain_run

test = load_dataset(root=ROOT, **DATASET).at_level("strong")
q, g = test.query, test.gallery
path = obtain_run("mpn-no-ca", test, runs=RUNS, shipped=SHIPPED, preset=PRESET, seed=SEED)
run = next(iter(open_runs({"MPNo": path}, test).values()))
fq, fg = (run.features(table).flatten(1) for table in (q, g))
scored = evaluate_ranking(fq, fg, q.pid, g.pid, q.camid, g.camid, junk_pids=test.junk_pids)

ranks = scored.per_query.first_hit_rank
near_misses = int(((ranks >= 2) & (ranks <= 5)).sum())
print(f"{near_misses} of {len(q)} queries")
print("3:", check_exercise("11.3", near_misses, per_query=scored.per_query))
