# %% [markdown]
# # 12 The dashboard: all panels on one pair of networks
#
# **What you will learn.** To ask your own questions: of the prior, of two variants, of K, of what parts look at, of a
# ranked list, of a crop that moves, of CGPN's features, and of the losses. Eight panels, the same networks in all.
#
# **Prerequisites.** None to play ([00 Start here](00_start_here.ipynb) for the words); each panel names the notebook
# that explains what it shows.
#
# **Paper.** MPN, Sec. 3.2 to 3.5, 5.1 to 5.3; CGPN, Sec. 3, 4.4, 4.6 and 4.7.
#
# **Minutes.** 2 on a 2-core CPU (30 more to train the networks, where no finished run is at hand), 1 on a GPU. As a web
# page of its own, without code: `make dashboard`.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "medium"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "hero"  # or "quick", or "paper" for a GPU
SEED = 0
RUNS = Path("../runs")  # your own runs, looked for first
SHIPPED = Path("../results/sidewalk/checkpoints")  # runs that ship with the kit
RESULTS = Path("../results/sidewalk/runs.csv")  # measured results of many seeds
PAIR = ("mpn", "baseline")  # any two rows of the table of variants
IDENTITIES = 30  # of the test set; more make panels slower and numbers harder
PRIOR_TOOL = "sidewalk"  # where maps of body parts come from; None for photographs without

# %% [markdown]
# ## Networks and images
#
# The kit's *heroes* open: networks of the preset `hero` on 192x64 images of Sidewalk `medium`, which is rendered on
# first use in about 40 CPU seconds. Your own finished runs are taken first, then the shipped ones; what is missing is
# trained now. To look at other runs, put their paths into `folders`.
#
# The pictures are those of the level `strong`, where boxes are badly placed: that is where MPN and the stripe Baseline
# differ. On `mild`, where most boxes fit, the Baseline is not behind; in the comparator the level can be chosen.
#
# The panels rank a part of the test set, so that each move is answered at once. A smaller gallery is an easier one:
# compare numbers within a panel, not with a table.

# %%
import pandas as pd
from IPython.display import display

from reidkit.data import load_dataset
from reidkit.panels.kit.runs import open_runs
from reidkit.panels.kit.subset import subset
from reidkit.training import obtain_run

ds = load_dataset(root=ROOT, **DATASET)
folders = {
    n: obtain_run(n, ds, runs=RUNS, shipped=SHIPPED, preset=PRESET, seed=SEED)
    for n in (*PAIR, "cgpn", "ide")
}
few = subset(ds.at_level("strong") if "strong" in ds.levels else ds, IDENTITIES)
networks = open_runs(folders, few)
pair = {name: networks[name] for name in PAIR}
table = RESULTS if RESULTS.is_file() else None
weights = {n: sum(p.numel() for p in r.model.parameters()) / 1e6 for n, r in networks.items()}
about = {"parts": {n: r.num_parts for n, r in networks.items()}, "million weights": weights}
display(pd.DataFrame(about).round(2))
print(f"{len(few.query)} queries and {len(few.gallery)} gallery images, level {few.level}")

# %% [markdown]
# ## 1 From two maps to a prior
#
# Notebook 02, MPN Sec. 3.2 and Fig. 5a. **Predict** what becomes of the K stripes when the legs are lost.

# %%
from reidkit.panels.prior_stepper import PriorStepper
from reidkit.priors import build_priors

run = networks[PAIR[0]]
grid = tuple(side // run.model.stride for side in run.size)
stepper = (
    PriorStepper.from_dataset(ds, tool=PRIOR_TOOL, grid=grid)
    if PRIOR_TOOL
    else "no maps of body parts"
)
priors = (
    build_priors(few, PRIOR_TOOL, grid=grid, splits=("query",), progress=False)
    if PRIOR_TOOL
    else None
)
stepper

# %% [markdown]
# ## 2 Two variants
#
# Notebook 05, MPN Table 1. **Predict** whether one variant is better on every query or on a few. It opens on the test
# level, of mild and strong, on which A is further ahead; choose another. The number line shows all seeds on the whole test set; beside it stand the
# two runs at hand, and on which levels A is ahead and on which it is not.

# %%
from reidkit.panels.comparator import VariantComparator

comparator = VariantComparator(pair, few, table)
comparator

# %% [markdown]
# ## 3 How many parts?
#
# Notebook 05, MPN Fig. 7. **Predict** the best K before you reveal. The curve needs no training: it cuts the map of a
# network that never heard of parts. Runs of `reidkit ablate mpn-fig7` add the trained curve, on axes of its own: they
# are ranked on the whole test set, the cut map on the images of this page.

# %%
from reidkit.panels.k_sweep import KSweep

sweep = KSweep(networks["ide"], few, table, priors=priors)
sweep

# %% [markdown]
# ## 4 Where parts look
#
# Notebook 10, MPN Sec. 5.2.5 and Fig. 8. **Predict** how much of a map survives when the weights are random.

# %%
from reidkit.panels.attention_panel import AttentionPanel

attention = AttentionPanel(pair, few)
attention

# %% [markdown]
# ## 5 The ranked list
#
# Notebook 11, CGPN Fig. 6. **Predict** the AP from the marks, then read the sum. Which part carries this query?

# %%
from reidkit.panels.ranked_list import RankedList

ranked = RankedList(pair, few)
ranked

# %% [markdown]
# ## 6 A crop that moves
#
# Notebooks 01 and 10. **Predict** which network loses its match first when the crop slides down. It opens with the
# first query whose match the Baseline loses, and MPN keeps, when the crop has moved by 15 % of its height. Drag the
# crop, or use the sliders; *straighten* takes the move back. Bring a picture of your own, then a second one to compare
# it with.

# %%
from reidkit.panels.misalignment import MisalignmentSandbox

sandbox = MisalignmentSandbox(pair, few)
sandbox.show_loss(dy=0.15)
sandbox

# %% [markdown]
# ## 7 The features of CGPN
#
# Notebook 07, CGPN Sec. 3.1, Fig. 3 and Table 4. **Predict** what is lost without the global features.

# %%
from reidkit.panels.cgpn_explorer import CGPNExplorer

explorer = CGPNExplorer(networks["cgpn"], few)
explorer

# %% [markdown]
# ## 8 The losses
#
# Notebook 03, MPN Eq. 3 and Eq. 8 to 10. **Predict** which points move when one hollow point is dragged away.

# %%
from reidkit.panels.loss_playground import LossPlayground

playground = LossPlayground()
playground

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for afterwards:
# [solutions/12_solutions](solutions/12_solutions.ipynb).
#
# 1. Comparator: on how many queries is A better than B in mAP?
# 2. CGPN explorer: the mAP (in percent) of the global features alone?
# 3. Loss playground, after a reset: the smallest margin on the slider at which all nine anchors violate it?

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None
answer_3 = None

print("1:", check_exercise("12.1", answer_1, comparator=comparator, pair=PAIR))
print("2:", check_exercise("12.2", answer_2, explorer=explorer))
print("3:", check_exercise("12.3", answer_3))

# %% [markdown]
# ## Questionnaire
#
# **1. The comparator's interval holds zero, and yet the AP of some queries changes by 0.5. A contradiction?**
# <details><summary>answer</summary>No. The interval is about the mean over queries from seed to seed; single queries
# gain and lose in both directions, and do so between two seeds of one variant too: choose those as A and B.</details>
#
# **2. Why may a CAM reach outside the stripe that a part pools, and a LayerCAM not?**
# <details><summary>answer</summary>Grad-CAM weights whole channels and shows them wherever they respond. LayerCAM
# multiplies the gradient of every cell with its response, and cells outside the stripe have no gradient.</details>
#
# **3. In the playground, why does a hollow point never appear in a triplet?**
# <details><summary>answer</summary>Eq. 3 is written for h, the features of the main tasks, which are used at test time.
# g of the auxiliary tasks meets h only in the alignment of Eq. 8.</details>
#
# **4. The two runs of section 2 rank better here than on the whole test set, with the same weights. Why?**
# <details><summary>answer</summary>The gallery is smaller: fewer strangers can be mistaken for the person.</details>
#
# ## Summary
#
# A panel is a pure function from a state to a picture, and a thin widget around it: `panel.render(panel.state(...))`
# gives the same picture in a script. All of them open a run folder of your own, on a data set of your own.
