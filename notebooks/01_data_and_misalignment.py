# %% [markdown]
# # 01 Data and the misalignment problem
#
# **What you will learn.** What a re-identification data set is (tables of images, identities and
# cameras, and a protocol), what the rendered *Sidewalk* set holds, why colour alone does not solve
# it, what happens to fixed stripes when a detector's box is off, what a batch and an epoch are, and
# how to switch to a set of photographs.
#
# **Prerequisites.** [00 Start here](00_start_here.ipynb) (Rank-1 and mAP).
#
# **Paper.** MPN, Sec. 1 and Fig. 1 (misalignment), Sec. 5 (data sets) and 5.1 (batches,
# augmentation); CGPN, Sec. 4.2 (batches).
#
# **Minutes.** 1 on a 2-core CPU (2 more if Sidewalk must be rendered first), 1 on a GPU.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "small"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0
RUNS = Path("../runs")  # your own runs, looked for first
SHIPPED = Path("../results/sidewalk/checkpoints")  # runs that ship with the kit

# %% [markdown]
# ## A data set is three tables
#
# Everything the kit needs to know about an image is its file, who is in it (`pid`) and which camera
# took it (`camid`). Models learn from **train**; each **query** image is searched for in the
# **gallery**. Nobody in train appears in query or gallery: the model must tell apart people it has
# never seen.

# %%
import figures
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib_inline.backend_inline import set_matplotlib_formats

from reidkit.data import load_dataset
from reidkit.reporting import plots

set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})  # a tenth of PNG's bytes
ds = load_dataset(**DATASET, root=ROOT)  # Sidewalk is rendered on first use
ds.summary()

# %% [markdown]
# Some sections below need a ground truth that no photographed set has: where each body part is,
# exactly. They always use Sidewalk, whatever `DATASET` says.

# %%
sidewalk = ds
if DATASET["name"] != "sidewalk":
    sidewalk = load_dataset("sidewalk", root=ROOT, size="small")


def named(table):
    """The table with file names instead of whole paths."""
    return table.assign(path=[Path(p).name for p in table.path]).rename(columns={"path": "file"})


named(ds.train).iloc[::700, :8]

# %% [markdown]
# The name of a file carries its labels. Market-1501 began it and most sets follow:
# `0002_c1s1_000451_03.jpg` is identity 2, camera 1, sequence 1, frame 451, third box of that frame.
# A few lines read it; the kit's own reader (`reidkit.data.sets.market.parse_name`) also handles the
# odd names of real archives.

# %%
import re

from reidkit.data.sets.market import parse_name


def read_name(name):
    """(pid, camid) of a file name."""
    found = re.match(r"(-?\d+)_c(\d+)", name)
    return int(found[1]), int(found[2])


files = [Path(p).name for p in pd.concat([ds.train, ds.query, ds.gallery]).path]
same = sum(read_name(f) == parse_name(f) for f in files)
print(files[0], "->", read_name(files[0]))
print(f"our three lines and the kit agree on {same} of {len(files)} names")

# %% [markdown]
# ## The protocol: who counts as a right answer
#
# Two identities in the gallery are special. **-1 is junk**: a box that hardly hits a person. It is
# removed from every ranked list, neither right nor wrong. **0 is a distractor**: a person nobody
# asks for, or an empty street that the detector took for one. Distractors stay, and can only be
# wrong. And for each query the images *of the same person under the same camera* are removed too.

# %%
kinds = np.select(
    [ds.gallery.pid.isin(ds.junk_pids), ds.gallery.pid == 0],
    ["junk (-1)", "distractor (0)"],
    "a test person",
)
counts = pd.crosstab(kinds, ds.gallery.camid, margins=True, margins_name="all")
counts.rename_axis(index="gallery image", columns="camera")

# %% [markdown]
# **Predict:** take the first query. How many of the gallery's images can be right for it: hundreds,
# about fifty, or fewer than twenty?

# %%
from reidkit.evaluation.protocol import GroundTruth

q, g = ds.query.iloc[0], ds.gallery
same_person, same_camera = g.pid == q.pid, g.camid == q.camid
right = np.flatnonzero(same_person & ~same_camera)
ignored = np.flatnonzero(g.pid.isin(ds.junk_pids) | (same_person & same_camera))
print(f"query: person {q.pid}, camera {q.camid}")
print(f"{len(right)} right, {len(ignored)} ignored, {len(g) - len(right) - len(ignored)} wrong")

kit_right, kit_ignored = GroundTruth(ds.query.pid, g.pid, ds.query.camid, g.camid, ds.junk_pids).of(
    0
)
agree = np.array_equal(right, kit_right) and np.array_equal(ignored, np.sort(kit_ignored))
print("the kit's protocol agrees:", agree)

# %% [markdown]
# A needle in a haystack, and that is with a small gallery.
#
# ## Look at the images
#
# One row a camera, different people in each row. Each camera has its own street, light, colour
# cast, sharpness and noise.

# %%
from reidkit.data.contact_sheet import contact_sheet

sheet = contact_sheet(
    ds.train, title=f"{ds.name}: training images", columns=12, thumb=(96, 48), seed=SEED
)
plots.image_grid([sheet], height=sheet.height / 100)

# %% [markdown]
# ## What Sidewalk is
#
# Sidewalk's people are drawn: jointed bodies that walk, seen from any side, in clothes of one
# shared palette of 14 colours. Two strangers often wear the same colours, and only *where* they
# wear them tells them apart. About seven in ten people have **siblings**, who are the same person
# but for one part: other shoes, a hat, another bag. Below, groups of siblings, each person twice;
# the title says what sets an image's person apart from the first of the group.

# %%
people = sidewalk.train.drop_duplicates("pid")
clear = sidewalk.train[(sidewalk.train.detector == "ok") & (sidewalk.train.occluder == "none")]
twice = clear.groupby(["group", "camid", "pid"]).head(2)  # two images a person and camera
members = 2 if DATASET.get("size") == "tiny" else 3
full = twice.groupby(["group", "camid"]).filter(
    lambda t: t.pid.nunique() == members and len(t) == 2 * members
)
# one camera, so that light is no difference
full = full[full.camid == full.groupby("group").camid.transform("min")]
full = full[full.group.isin(full.group.unique()[:4])]
names = full.differs.str.replace("-", "first").str.replace("_", "\n")
titles = [f"id {pid}\n{name}" for pid, name in zip(full.pid, names)]
plots.image_grid([plt.imread(p) for p in full.path], titles, columns=4 * members, height=1.9)

# %% [markdown]
# A model that looks at the whole picture and averages will not find a shoe. That is what *part*
# features are for.
#
# How many people have a sibling, and in what do the siblings differ?

# %%
has_sibling = people.groupby("group").pid.transform("size") > 1
print(f"{has_sibling.sum()} of {len(people)} training people have a sibling")
people.differs[people.differs != "-"].value_counts().rename("people").to_frame().T

# %% [markdown]
# ### The detector errs
#
# A pedestrian detector drew the boxes, and its boxes are off: shifted and scaled a little always,
# and sometimes `head` or `legs` are cut off or the box is `loose`. Things and people stand in front
# (`occluder`). Training images have medium errors; there are two test sets, `mild` and `strong`.

# %%
tables = {"train": sidewalk.train}
for level in ("mild", "strong"):
    tables |= {
        f"{level} query": sidewalk.levels[level][0],
        f"{level} gallery": sidewalk.levels[level][1],
    }
rows = {
    name: {
        **t[t.pid > 0].detector.value_counts(normalize=True),
        "occluded": (t[t.pid > 0].occluder != "none").mean(),
    }
    for name, t in tables.items()
}
(100 * pd.DataFrame(rows).T[["ok", "head", "legs", "loose", "occluded"]]).round(1).add_suffix(" %")

# %%
strong = sidewalk.levels["strong"][0]
cases = [
    ("ok", "none"),
    ("head", "none"),
    ("legs", "none"),
    ("loose", "none"),
    ("ok", "car"),
    ("ok", "person"),
    ("legs", "crate"),
    ("head", "bush"),
]
examples = [strong[(strong.detector == d) & (strong.occluder == o)].iloc[:1] for d, o in cases]
examples = pd.concat(examples)
titles = [
    f"box {r.detector}" + (f", {r.occluder}" if r.occluder != "none" else "")
    for r in examples.itertuples()
]
plots.image_grid([plt.imread(p) for p in examples.path], titles, columns=8, height=2.2)

# %% [markdown]
# ### The ground truth nobody else has
#
# Each image is drawn as a map of named pieces and coloured afterwards, so labels are exact. For the
# images above: body parts (orange head, blue torso, light blue arms, green legs, yellow feet,
# purple accessories), LIP labels as a human parser would give them (20 classes; no bag, no neck),
# and how much of each part can be seen.

# %%
from reidkit.data.sidewalk import PART_NAMES, load_truth
from reidkit.data.sidewalk.sheet import PART_COLOURS, overlay

truth = load_truth(sidewalk, examples)
pictures = [
    overlay(plt.imread(p), parts, weight=0.75) for p, parts in zip(examples.path, truth.parts)
]
pictures += [plots.LIP_COLOURS[parsing] for parsing in truth.parsing]
labels = ["body parts"] * len(examples) + ["LIP labels"] * len(examples)
plots.image_grid(pictures, labels, columns=8, height=2.2)

# %%
seen = pd.DataFrame(100 * truth.visibility, columns=PART_NAMES, index=titles)
extent = pd.DataFrame({"body from": truth.top, "to": truth.bottom}, index=titles)
pd.concat([extent.round(2), seen.round(0).add_suffix(" seen %")], axis=1)

# %% [markdown]
# `body from` 0.1 `to` 0.9 means: the body begins at 10 % of the picture's height and ends at 90 %.
# Negative numbers and numbers above 1 are bodies that the box cut.
#
# ## Colour alone does not solve it
#
# The simplest feature there is: how often each colour occurs. Colours are counted in 4 x 4 x 4
# boxes of red, green and blue; the square root makes the dot product of two histograms a measure of
# their overlap. With `K > 1` the picture is cut in K stripes and each has its own histogram.

# %%
from reidkit.data.loaders import test_batches
from reidkit.evaluation import evaluate_ranking

BOXES = 4


def histograms(images, K=1, top=0.0, bottom=1.0, weight=1.0):
    """Colour histograms [B, K*64] of uint8 images [B, 3, H, W], in K stripes between top and
    bottom (a number or [B]).

    weight: [B, H, W], how much a pixel counts.
    """
    B, _, H, W = images.shape
    r, g, b = np.moveaxis(images.astype(np.int64) * BOXES // 256, 1, 0)  # each [B, H, W], 0..3
    top, bottom = (np.broadcast_to(v, B)[:, None] for v in (top, bottom))
    stripe = np.floor(((np.arange(H) + 0.5) / H - top) / (bottom - top) * K).astype(int)  # [B, H]
    weight = weight * ((stripe >= 0) & (stripe < K))[:, :, None] * np.ones((B, H, W))
    place = np.arange(B)[:, None, None] * K + stripe.clip(0, K - 1)[:, :, None]  # which histogram
    index = (place * BOXES**3 + (r * BOXES + g) * BOXES + b).ravel()
    counts = np.bincount(index, weight.ravel(), B * K * BOXES**3).reshape(B, K, -1)
    share = counts / np.maximum(counts.sum(2, keepdims=True), 1e-9)  # each stripe counts the same
    return np.sqrt(share).reshape(B, -1).astype(np.float32)


# %%
half_red = np.zeros((1, 3, 4, 4), np.uint8)
half_red[:, 0, :, :2] = 255
print("half red, half black:", np.unique(histograms(half_red) ** 2))  # two boxes hold a half each


# %%
def all_histograms(table, K=1):
    """Histograms of all images of a table, a batch at a time. [N, K*64]"""
    batches = test_batches(table, size=(144, 48), batch_size=256)
    return np.concatenate([histograms(batch.images.numpy(), K) for batch in batches])


def rank1_and_map(qf, gf, q, g, **options):
    """Rank-1 and mAP in percent."""
    r = evaluate_ranking(qf, gf, q.pid, g.pid, q.camid, g.camid, **options)
    return {"Rank-1": round(100 * r.rank(1), 1), "mAP": round(100 * r.mAP, 1)}


rng = np.random.default_rng(SEED)
noise = [rng.normal(size=(len(t), 64)) for t in (ds.query, ds.gallery)]
features, rows = {}, {"random numbers": rank1_and_map(*noise, ds.query, ds.gallery)}
for K in (1, 6):
    features[K] = all_histograms(ds.query, K), all_histograms(ds.gallery, K)
    name = f"colours of {K} stripe{'s' * (K > 1)}"
    rows[name] = rank1_and_map(*features[K], ds.query, ds.gallery)
pd.DataFrame(rows).T

# %% [markdown]
# Better than random numbers, and far from useful. Why? **Predict** what happens when the protocol's
# camera rule is switched off, so that images of the query's own camera may count as right answers.

# %%
no_camera = ds.query.assign(camid=0)  # a camera that took no gallery image: nothing is removed
rows = {}
for K, (qf, gf) in features.items():
    name = f"{K} stripe{'s' * (K > 1)}"
    rows[f"{name}, the protocol"] = rank1_and_map(qf, gf, ds.query, ds.gallery)
    rows[f"{name}, own camera allowed"] = rank1_and_map(qf, gf, no_camera, ds.gallery)
pd.DataFrame(rows).T

# %% [markdown]
# The histogram recognises the *street and the camera*, not the person. That is what the rule is
# for: without it, a good score could mean a good memory for walls. Here is what one query finds
# ("x" wrong, "+" right).

# %%
from reidkit.evaluation.ranked_list import top_k

row = 5
q = ds.query.iloc[row]
qf, gf = features[6]
best = top_k(
    qf[row], gf, 9, q_pid=q.pid, q_camid=q.camid, g_pids=ds.gallery.pid, g_camids=ds.gallery.camid
)
found = ds.gallery.iloc[best.gallery_index]
captions = [f"camera {c}" for c in found.camid]
plots.ranked_list(
    plt.imread(q.path),
    [plt.imread(p) for p in found.path],
    list(best.correct),
    captions,
    f"colours of 6 stripes; the query is from camera {q.camid}",
)

# %% [markdown]
# Now let an oracle help: on Sidewalk we know which pixels are the person. How much of the failure
# is the background, and what do stripes add? A third oracle, **ROI**, cuts its six stripes between
# the true upper and lower end of the body instead of the whole picture.

# %%
from reidkit.data.images import read_image


def pixels(table, size=(144, 48)):
    """All images of a table at one size. uint8 [N, 3, H, W]"""
    return np.stack([read_image(p, size) for p in table.path])


def at_size(maps, size=(144, 48)):
    """Maps [N, H, W] brought to another size by nearest pixel."""
    rows, columns = (np.arange(n) * old // n for n, old in zip(size, maps.shape[1:]))
    return maps[:, rows[:, None], columns[None]]


# %%
def oracle_histograms(table):
    """The features of three oracles, by name."""
    truth, images = load_truth(sidewalk, table), pixels(table)
    person = at_size(truth.segmentation)
    # NaN: an empty street
    top, bottom = (
        np.nan_to_num(truth.top, nan=0.0),
        np.nan_to_num(truth.bottom, nan=1.0),
    )
    return {
        "person": histograms(images, 1, weight=person),
        "person, 6 stripes": histograms(images, 6, weight=person),
        "person, 6 stripes of the ROI": histograms(images, 6, top, bottom, person),
    }


# %%
gallery_features = oracle_histograms(sidewalk.gallery)
query_features = oracle_histograms(sidewalk.query)
rows = {}
for name, qf in query_features.items():
    scores = rank1_and_map(qf, gallery_features[name], sidewalk.query, sidewalk.gallery)
    rows[f"colours of the {name}"] = scores
pd.DataFrame(rows).T

# %% [markdown]
# Two lessons with no network at all: leave the background out, and look at *parts*. Both papers of
# this kit are about parts. But a stripe is only a part as long as the box is right.
#
# ## The misalignment problem
#
# The `shift` level shows the mild queries again, with everything standing 0, 5, 10, 15 and 20 % of
# the picture's height lower, as if the detector's box were too high. Six uniform stripes are drawn
# on.
#
# **Predict:** at a shift of 10 %, which body part does the stripe hold that held the head?

# %%
from reidkit.priors import prior_overlay

K = 6
shifted = sidewalk.levels["shift"][0]
shifts = sorted(shifted["shift"].unique())
one = shifted[(shifted.occluder == "none") & (shifted.detector == "ok")].groupby(["pid", "camid"])
one = one.get_group(list(one.groups)[min(7, len(one) - 1)]).sort_values("shift")
whole = np.ones((1, 1), bool)
cut = [prior_overlay(plt.imread(p), whole, 0, 1, K) for p in one.path]
cut += [prior_overlay(PART_COLOURS[p], whole, 0, 1, K) for p in load_truth(sidewalk, one).parts]
plots.image_grid(
    cut,
    [f"shift {s:.2f}" for s in one["shift"]] + ["exact parts"] * len(one),
    columns=5,
    height=2.6,
)

# %% [markdown]
# Over all queries: what does each stripe really hold? A row below is a stripe (1 is the top one), a
# number the percentage of that stripe's pixels that are street (or something in front of the
# person), head, torso, ...


# %%
def contents(table):
    """What each of K stripes holds, from the exact part maps. [N, K, 7] pixels: not the person,
    head, torso, ..."""
    parts = load_truth(sidewalk, table).parts  # [N, H, W]
    stripe = np.arange(parts.shape[1]) * K // parts.shape[1]  # [H]
    held = [
        [(parts[:, stripe == k] == i).sum((1, 2)) for i in range(len(PART_NAMES) + 1)]
        for k in range(K)
    ]
    return np.array(held).transpose(2, 0, 1)


held = {s: contents(shifted[shifted["shift"] == s]) for s in shifts}
share = {s: h.sum(0) / h.sum((0, 2))[:, None] for s, h in held.items()}  # [K, 7], rows sum to 1
chosen = {f"shift {s:.2f}": share[s] for s in (0.0, 0.1, 0.2)}
figures.percentages(chosen, ["street", *PART_NAMES])

# %% [markdown]
# The head sinks from stripe 1 to stripe 2, and stripe 1 is left with street. The feet leave the
# picture. How fast does it go wrong? In a picture of height 1 a stripe is 1/K high, so a shift by
# $s$ moves a share $sK$ of each stripe's pixels into the next one, until at $s = 1/K$ all have left
# theirs. Measured, pixel by pixel:


# %%
def moved_share(parts, s):
    """Share of the person's pixels [N, H, W] that are in another stripe (or outside) after a shift
    down by s."""
    H = parts.shape[1]
    rows = (parts > 0).sum((0, 2))  # [H] person pixels a row
    stripe, later = np.arange(H) * K // H, (np.arange(H) + s * H) * K // H
    return rows[stripe != later].sum() / rows.sum()


# %%
parts = load_truth(sidewalk, shifted[shifted["shift"] == 0]).parts
likeness = lambda a, b: np.minimum(a / a.sum(-1, keepdims=True), b / b.sum(-1, keepdims=True)).sum(
    -1
)
with np.errstate(invalid="ignore"):
    # [N, K], NaN: nobody in the stripe
    alike = {s: likeness(held[0.0][..., 1:], held[s][..., 1:]) for s in shifts}
table = pd.DataFrame(
    {
        "expected: left their stripe": [min(1, s * K) for s in shifts],
        "measured: left their stripe": [moved_share(parts, s) for s in shifts],
        "stripe still holds the same parts": [np.nanmean(alike[s]) for s in shifts],
        "spread over queries (sd)": [np.nanstd(np.nanmean(alike[s], axis=1)) for s in shifts],
    },
    index=pd.Index(shifts, name="shift"),
)
(100 * table).round(1).add_suffix(" %")

# %% [markdown]
# The third column compares what a stripe held of the person before and after: 100 % means the same
# mixture of parts. It falls more slowly, because neighbouring stripes often hold the same part (a
# leg is two stripes long).
#
# Does it matter for retrieval? The three colour oracles again, with shifted queries against an
# unshifted gallery.
#
# **Predict:** which of the three curves falls, and which stays?

# %%
curves = {name: [] for name in gallery_features}
for s in shifts:
    q = shifted[shifted["shift"] == s]
    for name, qf in oracle_histograms(q).items():
        found = rank1_and_map(qf, gallery_features[name], q, sidewalk.gallery)
        curves[name].append(found["Rank-1"])

lines = {f"colours of the {name}": (shifts, values) for name, values in curves.items()}
xlabel = "shift of the query crop (fraction of its height)"
figures.curves({"no network, only colours": lines}, xlabel, "Rank-1 (%)")

# %%
pd.DataFrame(curves, index=pd.Index(shifts, name="shift")).assign(
    lost_by_uniform_stripes=lambda t: t["person, 6 stripes"].iloc[0] - t["person, 6 stripes"]
)

# %% [markdown]
# Uniform stripes are better than no stripes while the box is right, and worse than none when it is
# off by 20 %. Stripes of the true ROI keep nearly all they had; the little that everybody loses
# left the picture with the feet. No network, no learning: the whole difference is *where the
# stripes are cut*. An oracle is not on offer at test time, and running two segmentation networks on
# each gallery image is dear. MPN's idea: use an imperfect ROI ([02 Coarse
# priors](02_coarse_priors.ipynb)) **in training only**, to teach the network to find its parts by
# itself.
#
# ## A validation split, so that nothing is tuned on test
#
# Settings are chosen on *training* identities that are held out. Siblings stay on one side:
# otherwise the model would have trained on the held-out person but for the shoes. Derived for any
# table, then compared with `validation_split`.


# %%
def hold_out(train, fraction=0.2, seed=0):
    """(train, query, gallery): whole groups held out; one image a person and camera asks, the rest
    answers."""
    group = train.group if "group" in train else train.pid
    shuffled = np.random.default_rng(seed).permutation(np.unique(group))
    held = group.isin(shuffled[: round(fraction * len(shuffled))])
    out = train[held]
    by = out.groupby(["pid", "camid"])
    asks = (by.cumcount() == 0) & (by.path.transform("size") > 1)
    return train[~held], out[asks], out[~asks]


validation = ds.validation_split(0.2, seed=SEED)
ours = hold_out(ds.train, 0.2, SEED)
kits = validation.train, validation.query, validation.gallery
print("ours and the kit's agree:", [list(a.path) == list(b.path) for a, b in zip(ours, kits)])
key = "group" if "group" in ds.train else "pid"
print("groups on both sides:", len(set(validation.train[key]) & set(validation.query[key])))
validation.summary()

# %% [markdown]
# ## Batches of P people x K images
#
# Triplet losses compare images *inside a batch*: to have positives and negatives, a batch holds P
# people with K images each. The paper writes S x A = 6 x 8 (MPN Sec. 5.1); CGPN writes 8 x 8. An
# epoch here visits every person once, in random order; the last batch is filled up with people seen
# before. A person with fewer than K images lends some of them twice.

# %%
from reidkit.data import PKSampler
from reidkit.training.recipes import recipe_for

recipe = recipe_for("mpn", PRESET)
P, A = recipe.num_ids, recipe.num_instances  # A: images a person


def epoch_plan(pids, P, A, seed, epoch):
    """[batches, P*A] row numbers of one epoch."""
    people = np.unique(pids)
    rng, draw = np.random.default_rng([seed, epoch]), np.random.default_rng([seed, epoch, 1])
    order = rng.permutation(len(people))
    rest = order[len(order) // P * P :]  # too few for a batch
    fill = rng.permutation(np.setdiff1d(order, rest))[: -len(order) % P]
    rows = [np.flatnonzero(pids == people[i]) for i in [*order, *fill]]
    return np.stack([draw.choice(r, A, replace=len(r) < A) for r in rows]).reshape(-1, P * A)


labels = ds.train_labels()
ours, sampler = epoch_plan(labels, P, A, SEED, epoch=0), PKSampler(labels, P, A, seed=SEED)
kits = sampler.epoch_batches(0)
print(f"{len(kits)} batches of {P} x {A}; equal: {np.array_equal(ours, kits)}")

# %%
first = ds.train.iloc[kits[0]]
titles = [f"id {pid}, c{c}" for pid, c in zip(first.pid, first.camid)]
plots.image_grid([plt.imread(p) for p in first.path], titles, columns=16, height=1.4)

# %% [markdown]
# ### What is an epoch?
#
# Users of every toolbox ask. There are two answers in use. `cover`, above, goes once through the
# *people*: its length does not depend on the number of images. `independent` (MPN's released code)
# draws the people of each batch anew and calls as many batches an epoch as the number of *images*
# allows. (The kit's short presets give a third: they go on drawing until a fixed number of batches
# is full, `batches_per_epoch`, so that an epoch takes as long on every set.) "70 epochs" means
# nothing until it is counted in batches.

# %%
rows = []
for mode in ("cover", "independent"):
    s = PKSampler(labels, P, A, seed=SEED, mode=mode)
    used = np.unique(s.epoch_batches(0))
    rows.append(
        (
            ds.name,
            mode,
            f"{P} x {A}",
            len(s),
            len(np.unique(labels[used])) / ds.num_train_ids,
            len(used) / len(labels),
        )
    )
epochs = pd.DataFrame(
    rows, columns=["data set", "epoch", "P x K", "batches", "people seen", "images seen"]
)
epochs.round(2)

# %% [markdown]
# The same counted for the papers' recipes on Market-1501. The number of people and images is the
# published one; MPN enlarges the training set by a factor of five with translated copies, and its
# epoch grows with it.

# %%
from reidkit.data.sets.published import PUBLISHED

market = PUBLISHED["market1501"]["train"]
rows = []
recipes = (
    ("MPN", 6, 8, "independent", 1, 70),
    ("MPN, enlarged x5", 6, 8, "independent", 5, 70),
    ("CGPN", 8, 8, "cover", 1, 240),
)
for name, p, a, mode, copies, n in recipes:
    length = len(PKSampler(np.arange(market.images * copies) % market.ids, p, a, mode=mode))
    rows.append((name, mode, f"{p} x {a}", length, n, n * length))
pd.DataFrame(
    rows,
    columns=["recipe", "epoch", "P x K", "batches an epoch", "epochs (paper)", "batches in all"],
)

# %% [markdown]
# ## Transforms that move image, mask and boundaries together
#
# In training, MPN's auxiliary tasks see where the person is: a mask on the feature grid and two
# boundaries (notebook 02). When an image is flipped or translated, they must move with it.
# `train_loader` delivers both; here is one batch.

# %%
from reidkit.data.loaders import train_loader
from reidkit.priors import build_priors

grid = {"quick": (18, 6), "paper": (24, 8)}[PRESET]  # rows and columns of the network's feature map
priors = build_priors(sidewalk, "sidewalk", grid=grid, progress=False)
loader = train_loader(
    sidewalk, size=recipe.size, num_ids=P, num_instances=A, seed=SEED, priors=priors
)
batch = next(iter(loader))
print(
    "images",
    tuple(batch.images.shape),
    batch.images.dtype,
    " labels",
    batch.labels[:6].tolist(),
    "...",
)
print({name: tuple(t.shape) for name, t in batch.prior._asdict().items()})

# %% [markdown]
# The flip mirrors the columns of image and mask and leaves the boundaries. The translation of Sec.
# 5.1 moves image, mask and boundaries; where the image has no pixels its edge is repeated (a black
# bar would tell the network the shift). Derived in a line each, then compared.

# %%
from reidkit.data.transforms import flip_images, translate_images

B, dy = len(batch), 0.1
yes, move, still = torch.ones(B, dtype=torch.bool), torch.full((B,), dy), torch.zeros(B)
flipped, flipped_prior = flip_images(batch.images, yes), batch.prior.flip(yes)
print(
    "flip, image:",
    torch.equal(flipped, batch.images.flip(-1)),
    " mask:",
    torch.equal(flipped_prior.mask, batch.prior.mask.flip(-1)),
)

lower, lower_prior = translate_images(batch.images, still, move), batch.prior.translate(still, move)
H = batch.images.shape[2]
source = (torch.arange(H) - round(dy * H)).clamp(min=0)  # the row that each row shows now
print("translation, image:", torch.equal(lower, batch.images[:, :, source]))
good = batch.prior.reliable
expected = (batch.prior.top + dy).clamp(0, 1)[good]
print(
    "translation, upper boundary: max difference",
    float((lower_prior.top[good] - expected).abs().max()),
)

# %% [markdown]
# Together with random erasing, `TrainAugment` makes a training batch: flip, normalise, erase.
# Below: the person as the prior knows it, after each transform. Orange lines: the six stripes
# between the boundaries.

# %%
from reidkit.data.transforms import AugmentConfig, TrainAugment

config = AugmentConfig(size=recipe.size, erasing=1.0)
augmented = TrainAugment(config)(batch, torch.Generator().manual_seed(SEED))
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
# undo the normalisation, to look at it
visible = ((augmented.images * std + mean).clamp(0, 1) * 255).byte()
i = int(torch.nonzero(good & (batch.prior.bottom < 0.95))[0])
stages = {
    "loaded": (batch.images, batch.prior),
    "flipped": (flipped, flipped_prior),
    "translated 10 %": (lower, lower_prior),
    "augmented": (visible, augmented.prior),
}
pictures = []
for images, prior in stages.values():
    mask, top, bottom = (getattr(prior, k)[i].numpy() for k in ("mask", "top", "bottom"))
    pictures += [images[i].permute(1, 2, 0).numpy()]
    pictures += [prior_overlay(pictures[-1], mask, float(top), float(bottom), 6)]
plots.image_grid(
    pictures, [t for name in stages for t in (name, "with prior")], columns=8, height=2.2
)

# %% [markdown]
# What if the mask is forgotten? The overlap (intersection over union) of the mask with the true
# person, on the same grid:

# %%
from torch.nn.functional import adaptive_avg_pool2d

train_truth = load_truth(sidewalk, loader.table.iloc[batch.index.tolist()])
person = torch.from_numpy(train_truth.segmentation).float()[:, None]  # [B, 1, H, W]
true_mask = adaptive_avg_pool2d(person, grid)[:, 0] >= 0.5  # [B, h, w]


def mean_iou(mask, truth):
    """Mean intersection over union of masks [B, h, w], reliable priors only."""
    inside, either = (mask & truth).sum((1, 2)), (mask | truth).sum((1, 2)).clamp(min=1)
    return float((inside / either)[good].mean())


print(f"not flipped                       {mean_iou(batch.prior.mask, true_mask):.3f}")
print(f"image flipped, mask flipped too   {mean_iou(flipped_prior.mask, true_mask.flip(-1)):.3f}")
print(f"image flipped, mask forgotten     {mean_iou(batch.prior.mask, true_mask.flip(-1)):.3f}")

# %% [markdown]
# A forgotten mask does not crash anything: training just gets worse. Tests guard such things better
# than eyes.
#
# ## Photographs instead: one setting
#
# Change the settings cell to `DATASET = {"name": "market1501"}`, put the unpacked archive under
# `data/`, and run all cells again: tables, protocol, contact sheet, colour baseline, validation
# split and batches are then those of the photographs. These sets have a parser; the counts are the
# published ones.

# %%
from reidkit.data.sets.published import OFFICIAL_PAGES

rows = {
    name: {
        f"{split} {what}": getattr(c, what)
        for split, c in splits.items()
        for what in ("ids", "images")
    }
    | {"page": OFFICIAL_PAGES[re.sub("-(detected|labeled)", "", name)].split(" ")[0].strip(":;")}
    for name, splits in PUBLISHED.items()
}
pd.DataFrame(rows).T

# %% [markdown]
# What if the files are not there? Errors of the kit name the culprit and say what to do. (`told`
# prints them instead of stopping the notebook, with the long folder names shortened.)

# %%
import shutil
import tempfile

from lesson import told

told(lambda: load_dataset("market1501", root=ROOT).summary(), data=ds.root.parent)

# %% [markdown]
# If you count with a paper beside you, some of its numbers will not come out; they are slips of the
# papers. For DukeMTMC-reID MPN prints 2,268 queries and 36,441 images, CGPN 16,552 training images:
# the set has 2,228, 36,411 and 16,522. And CUHK03 has "six cameras" in CGPN's text and two in
# MPN's: its files tell two views apart, those of the pair of cameras that saw the person, and the
# protocol needs no more.
#
# Any folder in Market-1501's layout will do (`"market-layout"`). Here is a small one, made from
# images of Sidewalk, with a stray `Thumbs.db` as in the real archive.

# %%
temporary = tempfile.TemporaryDirectory()
mine = Path(temporary.name) / "my-set"
test_people = sidewalk.query.pid.unique()[:4]
parts_of = {
    "bounding_box_train": sidewalk.train[sidewalk.train.pid.isin(people.pid[:6])],
    "query": sidewalk.query[sidewalk.query.pid.isin(test_people)],
    "bounding_box_test": sidewalk.gallery[sidewalk.gallery.pid.isin([*test_people, 0, -1])],
}
for folder, table in parts_of.items():
    (mine / folder).mkdir(parents=True)
    for path in table.path:
        shutil.copy(path, mine / folder)
(mine / "bounding_box_train" / "Thumbs.db").write_bytes(b"not an image")
told(lambda: load_dataset("market-layout", root=mine).summary())

# %% [markdown]
# `reidkit data check NAME` reads every file: counts against the published ones, images that do not
# decode, one picture in train and in test, cameras. Plant two faults: a file cut off in the middle,
# and a training image copied to the gallery under another name.

# %%
from reidkit.data.copies.check import check_dataset

files = sorted((mine / "bounding_box_train").glob("*.jpg"))
files[0].write_bytes(files[0].read_bytes()[:300])
shutil.copy(files[1], mine / "bounding_box_test" / f"{test_people[0]:04d}_c1s1_999999_01.jpg")
report = check_dataset(load_dataset("market-layout", root=mine), progress=False)
told(lambda: "\n".join(report.problems), FOLDER=mine)

# %% [markdown]
# And a file whose name says neither who nor which camera:

# %%
(mine / "query" / "photo_of_anna.jpg").write_bytes(b"")
told(lambda: load_dataset("market-layout", root=mine), FOLDER=mine)
temporary.cleanup()

# %% [markdown]
# In a shell, in the kit's folder:
#
# ```text
# python data_scripts/market1501.py --help               unpack a downloaded archive, safely
# reidkit data check market1501 --root data              is the copy sound? tables, contact sheet
# reidkit train mpn --dataset market1501 --preset paper  on a GPU
# ```
#
# **Before you download people.** The photographs in these sets show people who were mostly not
# asked. DukeMTMC was withdrawn by its authors in 2019; the kit reads a copy that you have a right
# to and helps nobody to a new one. Mind each set's licence, and do not build surveillance with
# this. Sidewalk was drawn so that the ideas can be taught without anybody's picture.
#
# ## Play with it
#
# Move the crop and watch the stripes: which body part does each stripe hold? The panel opens with
# the kit's *heroes* on Sidewalk `medium` (192x64, rendered now if it was not yet, in about 40 CPU
# seconds), at the first query whose match the stripe Baseline loses, and MPN keeps, when the person
# slides down by 15 % of the height. Without a shift, on mild boxes, the stripes are not behind:
# *straighten*, and see.

# %%
from reidkit.panels.misalignment import MisalignmentSandbox
from reidkit.training import obtain_run

medium = load_dataset("sidewalk", root=ROOT, size="medium")
places = {"runs": RUNS, "shipped": SHIPPED, "preset": "hero", "seed": SEED}
pair = {name: obtain_run(name, medium, **places) for name in ("mpn", "baseline")}
sandbox = MisalignmentSandbox(pair, medium)
sandbox.show_loss(dy=0.15)
sandbox

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/01_solutions](solutions/01_solutions.ipynb).
#
# 1. With K = 8 stripes and a box that is 5 % too high, which share of the person's pixels changes
#    its stripe?
# 2. Market-1501 is enlarged five times by translation; batches are 6 x 8. How many batches has an
#    `independent` epoch?
# 3. Write a function `ignored(g_pids, g_camids, pid, camid)` that returns, for arrays of gallery
#    labels, which images the protocol removes from this query's list (an array of bool).

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None
answer_3 = None  # a function

print("1:", check_exercise("01.1", answer_1))
print("2:", check_exercise("01.2", answer_2))
print("3:", check_exercise("01.3", answer_3))

# %% [markdown]
# ## Questionnaire
#
# **1. Why does the whole-picture histogram do well when images of the query's own camera count?**
# <details><summary>answer</summary>They show the same street in the same light, with the same
# colour cast: the histogram matches the scene.</details>
#
# **2. What is the difference between junk and distractors?**
# <details><summary>answer</summary>Junk (-1) is removed from each list. A distractor (0) stays and
# counts as wrong: it pushes right answers down.</details>
#
# **3. Six uniform stripes beat one histogram of the person on unshifted queries and lose at
# a shift of 20 %. Why?**
# <details><summary>answer</summary>Stripes compare part with part, which is more information, as
# long as the same stripe holds the same part in both images. At a shift above 1/6 every pixel is
# compared with another stripe's. One histogram does not know where anything is, so it cannot be
# wrong about it.</details>
#
# **4. Why must siblings not be split between training and validation?**
# <details><summary>answer</summary>The held-out person would be known but for one part: the score
# would flatter, and settings chosen by it would be wrong.</details>
#
# **5. Two papers train for 70 and for 240 epochs. Which trains longer?**
# <details><summary>answer</summary>One cannot say before counting batches: an epoch that visits
# each person once is much shorter than one that is as long as the number of images
# allows.</details>
#
# ## Summary
#
# A data set is three tables and a protocol. Cameras and streets make colour alone useless; parts
# help a lot, and fixed stripes stop being parts as soon as the box is off. All numbers here are
# ours, on rendered images, with colour histograms and no learning. Next: [02 Coarse
# priors](02_coarse_priors.ipynb), where the body is found with two imperfect tools.
