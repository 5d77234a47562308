# %% [markdown]
# # 12 Solutions
#
# Worked solutions of the exercises in [12 The dashboard: all panels on one pair of
# networks](../12_dashboard.ipynb). Try them there first.

# %%
import sys
from pathlib import Path

sys.path.insert(0, "..")  # the checkers stand beside the lessons

DATASET = {"name": "sidewalk", "size": "medium"}
ROOT = None  # the kit's data/
PRESET = "hero"
SEED = 0
RUNS = Path("../../runs")
SHIPPED = Path("../../results/sidewalk/checkpoints")

# %% [markdown]
# **1.** Comparator: on how many queries is A better than B in mAP? The panel draws the difference
# of each query: blue, above the curve.

# %%
from exercises import check_exercise

from reidkit.data import load_dataset
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.kit.runs import open_runs
from reidkit.panels.kit.subset import subset
from reidkit.training import obtain_run

PAIR = ("mpn", "baseline")
ds = load_dataset(root=ROOT, **DATASET)
places = {"runs": RUNS, "shipped": SHIPPED, "preset": PRESET, "seed": SEED}
few = subset(ds.at_level("strong"), 30)
networks = open_runs({n: obtain_run(n, ds, **places) for n in (*PAIR, "cgpn")}, few)
comparator = VariantComparator({n: networks[n] for n in PAIR}, few, None)
differences = comparator.differences(comparator.state(a=PAIR[0], b=PAIR[1], metric="mAP"))
answer_1 = int((differences > 0).sum())
print(f"{answer_1} of {len(differences)} queries")
print("1:", check_exercise("12.1", answer_1, comparator=comparator, pair=PAIR))

# %% [markdown]
# **2.** CGPN explorer: the mAP (in percent) of the global features alone, as the button 'only
# global' shows it.

# %%
explorer = CGPNExplorer(networks["cgpn"], few)
only_global = [k for k, (_, group) in enumerate(explorer.run.model.places) if group is None]
answer_2 = round(100 * explorer.ranking(tuple(only_global)).mAP, 1)
print(f"features {only_global}: {answer_2}")
print("2:", check_exercise("12.2", answer_2, explorer=explorer))

# %% [markdown]
# **3.** Loss playground, after a reset: the smallest margin on the slider at which all nine anchors
# violate it. Move it up in steps of 0.05 and read the line.

# %%
from reidkit.panels.loss_playground import LossPlayground

playground = LossPlayground()
for step in range(31):
    answer_3 = step / 20
    if " 9 of 9 anchors violate" in playground.status(playground.state(margin=answer_3)):
        break
print("3:", answer_3, check_exercise("12.3", answer_3))
