# %% [markdown]
# # 00 Start here
#
# **What you will learn.** What person re-identification asks, how an answer is scored, what the two
# papers of this kit claim, and whether your computer is ready for the other notebooks.
#
# **Prerequisites.** Python, and what a convolutional network is. No data set to download, no GPU.
#
# **Paper.** MPN (Ding, Wang, Wang, Tao, *Multi-task Learning with Coarse Priors for Robust
# Part-aware Person Re-identification*), Sec. 1 and Table 1; CGPN (the coarse granularity part-level
# network), Sec. 1.
#
# **Minutes.** 1 on a 2-core CPU, 1 on a GPU.

# %% [markdown]
# ## The settings cell
#
# Every notebook has one cell like the next. The same notebook runs on the rendered *Sidewalk* set
# in minutes and on a set of photographs with the paper's recipe: change `DATASET` and `PRESET`, run
# all cells again. Where a notebook needs more (`RUNS`, `SHIPPED`, ...), it has the same name and
# the same place in all of them. Notebooks run inside the folder `notebooks/`: runs live beside it,
# and data in `data/`, wherever a notebook runs.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "tiny"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0

# %% [markdown]
# ## What you will understand in the end
#
# One person, seen through three networks. Each has six *parts*, and each part names the person by
# itself; bright is where a part found its evidence. The box is badly placed: between the white
# lines lies the piece of the *body* that a part should be about.

# %%
from IPython.display import Image

FIGURE = Path("../docs/fig8.jpg")  # drawn by `python -m reidkit.reporting.fig8`
Image(FIGURE.read_bytes(), format="jpeg") if FIGURE.exists() else f"{FIGURE} is not here"

# %% [markdown]
# - **(a) Baseline** cuts the picture in six fixed stripes, whatever they hold: part 5 sits below
#   its piece of the body, part 6 also answers to the background.
# - **(b) Naive MTL** lets each part look anywhere. Its six parts learn nearly the same thing.
# - **(c) MPN** looks anywhere, too, and still each part sits on its own piece of the body: head,
#   shoulders, ... shoes. At test time nothing tells it where they are.
#
# How (c) comes about is this kit's story (notebooks 02, 03, 10). The networks are ours, trained on
# a rendered set; the picture was chosen by a rule, and the numbers beside it are means over 60
# queries of one seed: how often the brightest pixel lies in the own part, how often the own part
# holds more than any other, how alike the six maps are, how much lies beside the person. "Look
# anywhere" does not rank better everywhere: where that holds and where not is told in 04, 05 and
# 13.
#
# ## Is this computer ready?
#
# Each line names a thing the kit uses, which version is here, and what it is for. A missing
# *optional* line costs only what it names.

# %%
import importlib.metadata as metadata
import os
import shutil
import sys

import pandas as pd
import torch

NEEDED = {
    "torch": "models and training",
    "torchvision": "backbones",
    "pandas": "tables",
    "matplotlib": "figures",
}
OPTIONAL = {
    "ipywidgets": "panels",
    "grad-cam": "attention maps (10)",
    "timm": "other backbones",
    "transformers": "priors from real tools (06)",
    "h5py": "cuhk-03.mat",
}


# %%
def version(name):
    """The installed version of a package, or "missing"."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


rows = [("Python", ".".join(map(str, sys.version_info[:3])), "3.11 or newer")]
rows += [(name, version(name), what) for name, what in NEEDED.items()]
rows += [(name, version(name), f"optional: {what}") for name, what in OPTIONAL.items()]
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
rows += [("device", device, f"{os.cpu_count()} CPU cores; the quick presets need no GPU")]
free = shutil.disk_usage(".").free / 1e9
rows += [("disk", f"{free:.0f} GB free", "1 GB is enough after installation")]
table = pd.DataFrame(rows, columns=["what", "here", "for"]).set_index("what")
table

# %%
missing = [name for name in NEEDED if version(name) == "missing"]
ready = sys.version_info >= (3, 11) and not missing
print("ready" if ready else f"not ready: install {missing} (in the kit's folder: make setup)")

# %% [markdown]
# ## The question
#
# A person was seen by one camera (the **query**). Among images from other cameras (the
# **gallery**), which show the same person? A network turns each image into a vector; the gallery is
# sorted by distance to the query's vector.
#
# Two numbers score the sorted list. **Rank-1**: is the first image right? **AP**, the average
# precision: the mean, over the right images, of the share of right images down to there. The mean
# of AP over all queries is **mAP**.
#
# Predict before you run the next cell: a query has three right images in its gallery, at ranks 1, 3
# and 6. Is the AP above or below 0.7?

# %%
import numpy as np


def average_precision(right):
    """AP of one sorted list; right: one bool a gallery image, best match first."""
    ranks = np.flatnonzero(right) + 1  # counted from 1
    hits = np.arange(1, len(ranks) + 1)
    return float(np.mean(hits / ranks))


right = np.array([True, False, True, False, False, True])
print("precision at each right image:", np.round([1 / 1, 2 / 3, 3 / 6], 3))
print("AP:", round(average_precision(right), 4))

# %% [markdown]
# One right image at rank 6 instead of rank 4 already costs 0.08 of AP, while Rank-1 does not move:
# that is why the papers print both.
#
# The kit scores thousands of queries with the same definition. Derive, import, compare is the habit
# of every notebook: here are five queries with random features, scored by the three lines above and
# by `reidkit.evaluation.evaluate_ranking`.

# %%
from reidkit.evaluation import evaluate_ranking

rng = np.random.default_rng(SEED)
qf, gf = rng.normal(size=(5, 8)).astype("float32"), rng.normal(size=(40, 8)).astype("float32")
q_pids, g_pids = np.arange(5), np.arange(40) % 5
q_cams, g_cams = np.ones(5, int), np.full(40, 2)  # the same camera would be ignored

unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
order = np.argsort(-(unit(qf) @ unit(gf).T), axis=1)
by_hand = np.mean([average_precision(g_pids[o] == p) for o, p in zip(order, q_pids)])
by_kit = evaluate_ranking(qf, gf, q_pids, g_pids, q_cams, g_cams).mAP
print(f"by hand {by_hand:.6f}   kit {by_kit:.6f}   difference {abs(by_hand - by_kit):.1e}")

# %% [markdown]
# ## The claims
#
# A body part does not stay at its place in the picture: the detector's box is too high or too
# large, a leg is hidden behind a car. Both papers learn features of *parts* and fight this
# misalignment.
#
# - **MPN** trains a *main task* and an *auxiliary task* for each part. The auxiliary one is shown
#   where the part is, and teaches the main one through shared weights and aligned features; then it
#   is thrown away.
# - **CGPN** compares coarse, overlapping stripes, and supervises its global features with the two
#   body halves.
#
# Below: mAP as MPN's Table 1 prints it. These are the **paper's** numbers on Market-1501, not ours.

# %%
from reidkit.reporting import report

claims = report.paper_table("mpn-table1")
claims = claims[(claims.dataset == "market1501") & (claims.metric == "mAP")].set_index("row")[
    "value"
]
claims.rename("paper: mAP on Market-1501").to_frame()

# %%
from reidkit.reporting import plots

plots.bars(claims, unit="paper: mAP on Market-1501 (%)", title="MPN Table 1 (paper)")

# %% [markdown]
# In the paper every step from Naive MTL to MPN adds something. Which steps show on a small rendered
# set with a small network, and which do not, is measured in notebooks 05 and 13: a claim that does
# not show at small scale is a lesson too.
#
# ## The map of the kit
#
# | room | holds |
# |---|---|
# | `reidkit/data` | data sets as tables, batches of P identities x K images, Sidewalk's renderer |
# | `reidkit/losses.py` | every loss of both papers, plain functions |
# | `reidkit/priors` | parsing map + segmentation map -> coarse prior (MPN Fig. 5) |
# | `reidkit/models` | MPN, CGPN and their relatives; `zoo.py` is the one table of variants |
# | `reidkit/evaluation` | features, ranking, re-ranking |
# | `reidkit/training` | recipes, the loop, the papers' tables as suites |
# | `reidkit/attention` | what each part classifier looks at |
# | `reidkit/reporting/report.py`, `plots.py` | our numbers beside the papers', figures |
# | `reidkit/panels` | interactive panels |
#
# A file is a lesson: open `reidkit/models/mpn.py` with the paper beside it.

# %%
from IPython.display import Markdown

NOTEBOOKS = {
    "01_data_and_misalignment": "the rendered set, cameras, and why stripes fail",
    "02_coarse_priors": "from two imperfect maps to a body prior (MPN Sec. 3.2)",
    "03_mpn_step_by_step": "MPN, derived line by line (MPN Sec. 3.3-3.5)",
    "04_train_and_evaluate_mpn": "train, rank, and compare with the stripe baseline",
    "05_mpn_ablations": "the rows of MPN Tables 1-4, Rank-1 under shift, K, soft sharing",
    "06_priors_from_real_tools": "priors from parsing and segmentation networks",
    "07_cgpn_step_by_step": "CGPN's stripes and supervised global parts (CGPN Sec. 3)",
    "08_train_cgpn": "train CGPN beside MGN",
    "09_cgpn_ablations": "the rows of CGPN Tables 3 and 4",
    "10_part_attention": "what each part classifier looks at, in pictures and numbers",
    "11_retrieval_and_errors": "ranked lists: what was right, what was wrong, and why",
    "12_dashboard": "all interactive panels on one pair of models",
    "13_look_further": "MPN's open questions: scale, errors in the priors, cost",
}
link = lambda n: (
    f"[{n}]({n}.ipynb)" if Path(f"{n}.ipynb").exists() else f"{n} (not in this checkout)"
)
lines = [f"| {link(name)} | {what} |" for name, what in NOTEBOOKS.items()]
Markdown("\n".join(["| notebook | what it shows |", "|---|---|", *lines]))

# %% [markdown]
# **How to run.** In a notebook: Shift+Enter a cell, or *Run All*. From a shell, in the kit's
# folder: `make lab` opens this page, `make tour` trains, evaluates and executes everything into one
# web page, `make notebooks` executes the notebooks and writes their outputs.
#
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/00_solutions](solutions/00_solutions.ipynb).
#
# 1. Two right images stand at ranks 2 and 4 of a list. What is its AP?
# 2. A query has four right images. What is the lowest AP that still has a right image at rank 1, in
#    a gallery of 100? (Four digits.)

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None

print("1:", check_exercise("00.1", answer_1))
print("2:", check_exercise("00.2", answer_2))

# %% [markdown]
# ## Questionnaire
#
# **1. Why may a query not be matched with images of its own camera?**
# <details><summary>answer</summary>They are often neighbouring frames of one video: a match of
# background and pose, not of a person. The protocol ignores them.</details>
#
# **2. Rank-1 is 96 % and mAP 84 %. What does that say about the lists?**
# <details><summary>answer</summary>The first image is nearly always right, but other right images
# of the person come late: easy matches are found, hard views are not.</details>
#
# **3. What does MPN throw away after training, and what does it still need at test time?**
# <details><summary>answer</summary>The auxiliary tasks and with them the priors. At test time it
# needs the image only.</details>
#
# **4. A table shows 89.2 without a label. Which question do you ask first?**
# <details><summary>answer</summary>Whose number, on which data, over how many seeds, with or
# without re-ranking. Tables of this kit say so.</details>
#
# ## Summary
#
# Re-identification sorts a gallery; Rank-1 looks at the first image and mAP at the whole list. Both
# papers learn part features that survive misalignment. Next: [01 Data and the misalignment
# problem](01_data_and_misalignment.ipynb).
