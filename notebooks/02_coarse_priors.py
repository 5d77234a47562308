# %% [markdown]
# # 02 Coarse priors
#
# **What you will learn.** How MPN finds the body in training images with two imperfect tools: a
# human parser and a person segmenter. Each step is derived in a few lines and compared with the
# kit: counting heads and legs, the union, resizing by area, binarising, dilating, the region of
# interest (ROI), K stripes, and the part features that come out. Then the prior is measured against
# a ground truth: how often it exists, and how far off it is.
#
# **Prerequisites.** [01 Data and the misalignment problem](01_data_and_misalignment.ipynb).
#
# **Paper.** MPN, Sec. 3.2, Fig. 4 (what the tools do), Fig. 5 (the pipeline), Table 2 (the variants
# of the input).
#
# **Minutes.** 1 on a 2-core CPU, 1 on a GPU.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "small"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0

# %% [markdown]
# This notebook measures against exact truth, so it needs Sidewalk, and trains nothing: the paper's
# grid and K are used under every preset. For a set of photographs, the same pipeline runs on the
# maps that real tools make: [06 Priors from real tools](06_priors_from_real_tools.ipynb).

# %%
import figures
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib_inline.backend_inline import set_matplotlib_formats

from reidkit.data import load_dataset
from reidkit.data.sidewalk import load_truth
from reidkit.reporting import plots

set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})  # a tenth of PNG's bytes
if DATASET["name"] != "sidewalk":
    print(f"{DATASET['name']} has no ground truth: going on with Sidewalk small")
    DATASET = {"name": "sidewalk", "size": "small"}
ds = load_dataset(**DATASET, root=ROOT)
GRID, K = (24, 8), 6  # the paper's feature map and number of parts
ds.summary()

# %% [markdown]
# ## Two tools, each half blind
#
# The **parser** names each pixel: hair, face, upper clothes, left leg ... (the 20 labels of the
# Look Into Person set, LIP). It has no label for bags and necks. The **segmenter** finds the whole
# person with all that is carried, but does not know a head from a foot. Sidewalk imitates both:
# their outputs are derived from the exact maps and fail the way the paper's tools do.

# %%
from reidkit.priors import image_paths, open_source

tools = open_source(ds, "sidewalk")
train_paths = image_paths(ds, "train")
loose = ds.train[
    (ds.train.detector == "loose") & (ds.train.occluder == "none") & (ds.train.tool_faults == "-")
]
seen = load_truth(ds, loose).visibility[:, -1]  # how much of bag or scarf is seen
row = loose.index[np.nan_to_num(seen) > 0.8][3]
path, photo = train_paths[row], plt.imread(ds.train.path[row])
parsing, segmentation = tools.maps([path])[0]
exact = load_truth(ds, ds.train.loc[[row]])

pictures = [
    photo,
    plots.LIP_COLOURS[parsing],
    segmentation,
    plots.LIP_COLOURS[exact.parsing[0]],
    exact.segmentation[0],
]
titles = ["image", "parser", "segmenter", "exact parsing", "exact segm."]
plots.image_grid(pictures, titles, columns=5, height=2.6)

# %% [markdown]
# ## Step 1: are the head and at least one leg there?
#
# If the box cut off the head or both legs, the first and last row of the person say nothing about
# where the *body* begins and ends. So count pixels first. The paper does not give thresholds; ours
# are fractions of the picture's area: `MIN_HEAD` and `MIN_LEG`.
#
# Trousers hide legs in LIP (they are `pants`), so trousers, socks and shoes count as legs too.

# %%
from reidkit.priors.coarse import MIN_HEAD, MIN_LEG, prior_steps
from reidkit.priors.labels import HEAD_LABELS, LEG_LABELS, LIP_LABELS

# the kit's, with every picture on the way
steps = prior_steps(parsing, segmentation, GRID, num_parts=K)
print("head:", [LIP_LABELS[i] for i in HEAD_LABELS])
print("legs:", [LIP_LABELS[i] for i in LEG_LABELS])

head_pixels = np.isin(parsing, HEAD_LABELS).sum()
leg_pixels = np.isin(parsing, LEG_LABELS).sum()
print(f"head {head_pixels} pixels, more than {MIN_HEAD * parsing.size:.0f} needed")
print(f"legs {leg_pixels} pixels, more than {MIN_LEG * parsing.size:.0f} needed")
print("kit:", steps.head_pixels, steps.leg_pixels)

# %% [markdown]
# ## Step 2: the union of both maps
#
# A pixel is body if the parser names it *or* the segmenter marks it. Bag and neck are back. (Real
# segmenters give probabilities; the maximum of both maps is the union of hard and of soft ones.)
#
# **Predict:** a union can only add pixels. What gets worse by that?

# %%
union = np.maximum(parsing > 0, segmentation)  # [H, W], 0 .. 1
print("equal to the kit's:", np.array_equal(union, steps.union))
truth = exact.segmentation[0]
for name, found in {
    "parser": parsing > 0,
    "segmenter": segmentation >= 0.5,
    "union": union >= 0.5,
}.items():
    recall, precision = (found & truth).sum() / truth.sum(), (found & truth).sum() / found.sum()
    print(f"{name:10} finds {recall:.1%} of the person; {precision:.1%} of what it marks is person")

# %% [markdown]
# ## Step 3: resize to the feature grid by area
#
# The network sees the picture as 24 x 8 cells. How much of each cell is body? When the grid divides
# the picture it is the mean over a block.

# %%
H, W = union.shape
rows, columns = H // GRID[0], W // GRID[1]
blocks = union.reshape(GRID[0], rows, GRID[1], columns)  # [24, rows, 8, columns]
resized = blocks.mean(axis=(1, 3))  # [24, 8]
print(
    f"a cell is {rows} x {columns} pixels; max difference to the kit: "
    f"{np.abs(resized - steps.resized).max():.1e}"
)

# %% [markdown]
# When it does not divide (128 rows, 24 cells), a pixel on the border of two cells belongs to both,
# each in its share. That is one small matrix a direction: `area_weights(size, cells)`. For 3 pixels
# and 2 cells:

# %%
from reidkit.priors.coarse import area_weights


def area_in_cells(size, cells):
    """[cells, size] how much of each pixel lies in each cell, in pixels."""
    edges = np.arange(cells + 1) * size / cells
    pixel = np.arange(size)
    low, high = np.maximum(edges[:-1, None], pixel), np.minimum(edges[1:, None], pixel + 1)
    return np.maximum(high - low, 0)


print(area_in_cells(3, 2))  # the middle pixel belongs to both cells, half and half
difference = np.abs(area_in_cells(128, 24) - area_weights(128, 24) / 24).max()
print("max difference to the kit, 128 pixels in 24 cells:", difference)

# %% [markdown]
# Why not simply take every sixth pixel? Because one wrong pixel would be a wrong cell. Nine random
# pixels in a hundred are flipped below; which resize still looks like the person?

# %%
noisy = (union >= 0.5) ^ (np.random.default_rng(SEED).random(union.shape) < 0.09)
by_area = noisy.reshape(blocks.shape).mean(axis=(1, 3)) >= 0.5
by_pixel = noisy[rows // 2 :: rows, columns // 2 :: columns]
clean = resized >= 0.5
wrong = {"by area": (by_area != clean).sum(), "every sixth pixel": (by_pixel != clean).sum()}
print("wrong cells of", clean.size, ":", {name: int(n) for name, n in wrong.items()})
plots.image_grid(
    [noisy, by_area, by_pixel, clean],
    ["noisy union", "by area", "by pixel", "no noise"],
    columns=4,
    height=1.8,
)

# %% [markdown]
# ## Steps 4 and 5: binarise, dilate with a 1 x 2 kernel
#
# A cell is body if at least half of it is. The 1 x 2 dilation then makes up for a thin
# segmentation: a cell is set if it *or its left neighbour* was, so the mask grows by one cell to
# the right. (A kernel of even width has no centre; the paper does not say which side. Ours grows
# right, and says so.) The result is the mask M.

# %%
binarised = resized >= 0.5
dilated = binarised.copy()
dilated[:, 1:] |= binarised[:, :-1]
print(
    "binarised equal:",
    np.array_equal(binarised, steps.binarised),
    " M equal:",
    np.array_equal(dilated, steps.mask),
)

# %% [markdown]
# ## Step 6: first and last occupied row -> ROI, K stripes
#
# The boundaries are fractions of the picture's height, in steps of 1/24. Between them, K stripes of
# equal height.

# %%
occupied = np.flatnonzero(dilated.any(axis=1))
top, bottom = occupied[0] / GRID[0], (occupied[-1] + 1) / GRID[0]
print(
    f"ROI from {top:.3f} to {bottom:.3f} (kit {steps.top:.3f}, {steps.bottom:.3f}); the body is "
    f"from {exact.top[0]:.3f} to {exact.bottom[0]:.3f}"
)
stripes = top + (bottom - top) * np.arange(K + 1) / K
print("stripes:", np.round(stripes, 3), " max difference:", np.abs(stripes - steps.stripes).max())
plots.prior_steps(photo, parsing, segmentation, steps.prior, K)

# %% [markdown]
# That is MPN's Fig. 5(a). The whole pipeline in one function, compared with the kit on a thousand
# images:

# %%
from reidkit.priors import coarse_prior, coarse_priors


def our_prior(parsing, segmentation, grid=GRID):
    """(mask [h, w], top, bottom, reliable) of one image."""
    h, w = grid
    H, W = parsing.shape
    head = np.isin(parsing, HEAD_LABELS).mean() > MIN_HEAD
    legs = np.isin(parsing, LEG_LABELS).mean() > MIN_LEG
    union = np.maximum(parsing > 0, segmentation)
    share = area_in_cells(H, h) @ union @ area_in_cells(W, w).T / (H * W / (h * w))
    body = share >= 0.5 - 1e-9  # sums of fractions are not exact; the kit counts in whole numbers
    body[:, 1:] |= body[:, :-1].copy()
    rows = np.flatnonzero(body.any(axis=1))
    if not (head and legs and len(rows)):
        return np.ones((h, w), bool), 0.0, 1.0, False  # the whole image, evenly divided
    return body, rows[0] / h, (rows[-1] + 1) / h, True


# %%
maps = tools.maps(train_paths[:1000])
kits = [coarse_prior(p, s, GRID) for p, s in maps]
ours = [our_prior(p, s) for p, s in maps]
same = [
    np.array_equal(a[0], b.mask) and a[1:] == (b.top, b.bottom, b.reliable)
    for a, b in zip(ours, kits)
]
print(f"equal for {sum(same)} of {len(same)} images")

# %% [markdown]
# `coarse_priors` does many images in a few array operations; `build_priors` reads the maps of a
# whole data set and keeps the priors in one small file.

# %%
import time

stacks = [np.stack(column) for column in zip(*maps)]
start = time.process_time()
many = coarse_priors(*stacks, GRID)
seconds = time.process_time() - start
equal = [
    np.array_equal(m, k.mask) and (t, b) == (np.float32(k.top), np.float32(k.bottom))
    for m, t, b, k in zip(many.mask.numpy(), many.top.numpy(), many.bottom.numpy(), kits)
]
print(
    f"all at once: equal for {sum(equal)} of {len(kits)} images; {len(kits) / seconds:,.0f} images "
    "a CPU second"
)

# %%
from reidkit.priors import build_priors

priors = build_priors(ds, "sidewalk", grid=GRID, splits="all")  # cached below data/
print(priors.summary())

# %% [markdown]
# ## What the tools do: MPN's Fig. 4
#
# (a) The parser ignores a bag. (b) It ignores the neck. (c) The parser failed, (d) the segmenter
# failed, (e) both failed. (f) The box misses much of the body. Four pictures a case: image, parser,
# segmenter, and the picture under the mask with the K stripes (orange).

# %%
from reidkit.priors import prior_overlay


def has(table, *faults):
    """Which rows have one of these faults of the tools."""
    return table.tool_faults.str.contains("|".join(faults))


def case_pictures(row):
    """Image, parser, segmenter, prior of one training image, and what the pipeline said."""
    photo, (parsing, segmentation) = plt.imread(t.path[row]), tools.maps([train_paths[row]])[0]
    steps = prior_steps(parsing, segmentation, GRID)
    result = prior_overlay(photo, steps.mask, steps.top, steps.bottom, K)
    return [photo, plots.LIP_COLOURS[parsing], segmentation, result], steps.reason


# %%
PARSER, SEGMENTER = ("no-head", "no-legs", "merged"), ("empty", "band", "bleed")
t = ds.train
plain = (t.detector == "ok") & (t.occluder == "none")
train_truth = load_truth(ds, t)
# share of the picture, scarves and bags
bag = pd.Series((train_truth.parts == 6).mean((1, 2)), index=t.index)
nothing = pd.Series(np.isnan(train_truth.visibility[:, -1]), index=t.index)
good = t.tool_faults == "-"
cases = {
    "(a) bag": plain & good & (bag > bag.quantile(0.98)),
    "(b) neck": plain & good & nothing & (np.cos(t.yaw) > 0.9) & (t.top > 0.03),
    "(c) parser failed": plain & has(t, "no-legs") & ~has(t, *SEGMENTER) & (t.top > 0.03),
    "(d) segm. failed": plain & has(t, "band") & ~has(t, *PARSER) & (t.top > 0.03),
    "(e) both failed": has(t, "no-head", "no-legs") & has(t, "band", "empty"),
    "(f) bad box": (t.detector == "legs") & (t.bottom > 1.35) & good,
}

# %%
pictures, titles = [], []
for name, chosen in cases.items():
    row = t.index[chosen][min(2, chosen.sum() - 1)]
    shown, reason = case_pictures(row)
    pictures += shown
    titles += [name, "parser", "segmenter", reason or "M, stripes"]
plots.image_grid(pictures, titles, columns=8, height=2.3)

# %% [markdown]
# Where the pipeline says "no head" or "no leg" the whole picture is divided evenly.
#
# "The chance that they both fail for the same image is small" (Sec. 3.2). Here the failures are
# known. If the tools failed independently, both would fail as often as the product says; images of
# low quality hit both.

# %%
parser_failed, segmenter_failed = has(t, *PARSER), has(t, *SEGMENTER)
rows = {
    "parser failed": parser_failed.mean(),
    "segmenter failed": segmenter_failed.mean(),
    "both failed": (parser_failed & segmenter_failed).mean(),
    "both, if independent": parser_failed.mean() * segmenter_failed.mean(),
}
pd.Series(rows).mul(100).round(2).rename("% of the training images").to_frame()

# %% [markdown]
# What does the union buy? Recall: how much of the true person (with what is carried) is found.
# Precision: how much of what is marked is person. Measured pixel by pixel on the first 1,000
# training images.

# %%
first = t.head(1000)
truths = load_truth(ds, first).segmentation
parsings, segmentations = stacks
found = {"parser": parsings > 0, "segmenter": segmentations >= 0.5}
found["union"] = found["parser"] | found["segmenter"]
groups = {
    "all": np.ones(len(first), bool),
    "no failure": ~(has(first, *PARSER) | has(first, *SEGMENTER)),
    "parser failed": has(first, *PARSER),
    "segmenter failed": has(first, *SEGMENTER),
}
table = {}
for name, f in found.items():
    right = (f & truths).sum((1, 2))
    recall = right / truths.sum((1, 2)).clip(1)
    precision = np.where(f.any((1, 2)), right / f.sum((1, 2)).clip(1), np.nan)
    for group, rows in groups.items():
        r, p = recall[np.asarray(rows)], precision[np.asarray(rows)]
        table[name, f"{group} ({len(r)})"] = {"recall": r.mean(), "precision": np.nanmean(p)}
(100 * pd.DataFrame(table).T.unstack(0)).round(1).sort_index(ascending=False)

# %% [markdown]
# The union finds more of the person than either tool, in every group, and pays with precision: the
# parser's coarse borders and the segmenter's "bleeding" patch of street stay in. A coarse grid can
# afford that trade.
#
# ## How often is there a prior?
#
# **Predict:** a box with the head cut off. Is the prior always "not reliable"?


# %%
def lookup(table):
    """The priors of a table's images, as columns beside it."""
    batch = priors.lookup([str(Path(p).relative_to(ds.root).as_posix()) for p in table.path])
    return table.assign(
        p_top=batch.top.numpy(), p_bottom=batch.bottom.numpy(), reliable=batch.reliable.numpy()
    )


levels = {
    "train (medium)": ds.train,
    "mild": pd.concat(ds.levels["mild"]),
    "strong": pd.concat(ds.levels["strong"]),
}
known = {name: lookup(table[table.pid > 0]) for name, table in levels.items()}
rows = {}
for name, table in known.items():
    by = table.groupby("detector").reliable.mean()
    rows[name] = {
        "all": table.reliable.mean(),
        **{f"box {d}": by[d] for d in ("ok", "loose", "head", "legs")},
        "occluded": table[table.occluder != "none"].reliable.mean(),
    }
(100 * pd.DataFrame(rows).T).round(1).add_suffix(" %")

# %% [markdown]
# A part of the head is enough for step 1, and then the ROI begins at the picture's edge, which is
# right: nothing of the picture lies above. Counting pixels is a test of "is there enough", not of
# "is it whole".

# %%
reasons = {}
for name, table in known.items():
    bad = table[~table.reliable].head(400)
    paths = [Path(p).relative_to(ds.root).as_posix() for p in bad.path]
    found = [prior_steps(p, s, GRID).reason for p, s in tools.maps(paths)]
    reasons[name] = pd.Series(found).value_counts(normalize=True)
(100 * pd.DataFrame(reasons)).round(1).rename_axis("% of the unreliable ones")

# %% [markdown]
# ## How far off are the boundaries?
#
# The body's true upper and lower end are known, also when the box cuts the body: then the picture's
# edge is the right answer. The error is in percent of the picture's height, averaged over images.
# Uniform division always answers 0 and 1. An image without a reliable prior is divided evenly too,
# and counts in `all images`.
#
# **Predict:** what is the smallest mean error that a grid of 24 rows can have, if the body ends
# anywhere in a row?


# %%
def errors(table):
    """Mean absolute errors of upper and lower boundary, in % of the height: the prior's and uniform
    division's."""
    top, bottom = table.top.clip(0, 1), table.bottom.clip(0, 1)
    return {
        "upper, prior": 100 * (table.p_top - top).abs().mean(),
        "upper, uniform": 100 * top.abs().mean(),
        "lower, prior": 100 * (table.p_bottom - bottom).abs().mean(),
        "lower, uniform": 100 * (1 - bottom).mean(),
    }


rows = {}
for name, table in known.items():
    sound = table[table.reliable]
    subsets = {
        "all images": table,
        "reliable": sound,
        "reliable, nothing in front": sound[sound.occluder == "none"],
    }
    rows |= {(name, subset): errors(t) | {"images": len(t)} for subset, t in subsets.items()}
pd.DataFrame(rows).T.round(2).astype({"images": int})

# %% [markdown]
# Read it from the last row of each block. Where a prior exists and nothing stands in front, both
# boundaries are right to about one percent of the height. (The grid alone costs a quarter of a row
# on average where rows round to the nearest, 100 / 24 / 4 = 1.04 %. It can be less, because a body
# that the box cuts ends exactly at the picture's edge.) An occluder hides the feet, and the tools
# take its edge for the end of the body: the lower boundary suffers. And where there is no prior,
# the error is uniform division's, by design.
#
# Uniform division is not that bad on average: of the training images and on `mild` most boxes are
# right. The prior is for the others.
# The controlled shift shows it: everything stands lower by a known fraction.
#
# **Predict:** draw the two curves of the upper boundary's error before you run the cell.

# %%
shifted = lookup(ds.levels["shift"][0])
by_shift = pd.DataFrame({s: errors(rows) for s, rows in shifted.groupby("shift")}).T  # all images
by_shift["upper, reliable priors"] = [
    errors(t[t.reliable])["upper, prior"] for _, t in shifted.groupby("shift")
]
by_shift["reliable (%)"] = 100 * shifted.groupby("shift").reliable.mean()
panels = {
    f"{side} boundary": {
        k: (by_shift.index, by_shift[f"{side}, {k}"]) for k in ("prior", "uniform")
    }
    for side in ("upper", "lower")
}
figures.curves(panels, "shift of the crop", "mean error (% of the height)", shared=True)

# %%
by_shift.round(2)

# %% [markdown]
# The upper boundary of uniform division is wrong by what was shifted; the prior follows the body.
# Most of what its error gains with the shift comes from the few images without a reliable prior,
# which are divided evenly. Under a shift the lower end of the body leaves the picture, and then the
# picture's edge is right for both.
#
# ### Do the stripes hold the same part?
#
# The measure of notebook 01: how alike is what a stripe holds, compared with the same stripe of the
# same picture unshifted. The body does not leave the picture at its upper end, so its upper stripes
# are the fair ones; at the lower end, the ROI stops at the picture's edge and its stripes are
# squeezed onto the rest of the body. That is a limit of *any* equal division between first and last
# visible row.


# %%
def held(table, top, bottom):
    """Pixels of each body part in each of K stripes between top and bottom [N]. [N, K, 6]"""
    parts = load_truth(ds, table).parts
    y = (np.arange(parts.shape[1]) + 0.5) / parts.shape[1]
    top, bottom = (np.asarray(v)[:, None] for v in (top, bottom))
    # [N, H]; outside the ROI: below 0 or from K on
    stripe = np.floor((y - top) / (bottom - top) * K)
    return np.stack(
        [
            [((parts == i + 1) & (stripe == k)[:, :, None]).sum((1, 2)) for i in range(6)]
            for k in range(K)
        ]
    ).transpose(2, 0, 1)


def alike(a, b):
    """Overlap of two mixtures of parts, stripe by stripe; NaN where a stripe holds nobody.
    [N, K]"""
    with np.errstate(invalid="ignore"):
        return np.minimum(a / a.sum(-1, keepdims=True), b / b.sum(-1, keepdims=True)).sum(-1)


# %%
groups = dict(list(shifted.groupby("shift")))
uniform = {s: held(g, np.zeros(len(g)), np.ones(len(g))) for s, g in groups.items()}
roi = {s: held(g, g.p_top, g.p_bottom) for s, g in groups.items()}
rows = {}
for s in groups:
    for name, contents in (("uniform", uniform), ("prior", roi)):
        per_stripe = np.nanmean(alike(contents[0.0], contents[s]), axis=0)
        rows[s, name] = {
            **{f"stripe {k + 1}": v for k, v in enumerate(per_stripe)},
            "mean": per_stripe.mean(),
        }
(100 * pd.DataFrame(rows).T).round(0).astype(int)

# %% [markdown]
# ## The three settings
#
# Thresholds must come from somewhere. How sensitive is the prior to ours? One at a time, on 1,000
# *training* images (never on test images): the share of reliable priors, and the error of the
# reliable ones where nothing is in front.

# %%
base = {"min_head": MIN_HEAD, "min_leg": MIN_LEG, "threshold": 0.5}
trials = [
    base,
    base | {"min_head": MIN_HEAD / 4},
    base | {"min_head": MIN_HEAD * 4},
    base | {"min_leg": MIN_LEG / 4},
    base | {"min_leg": MIN_LEG * 4},
    base | {"threshold": 0.2},
    base | {"threshold": 0.8},
]
rows = []
for settings in trials:
    batch = coarse_priors(*stacks, GRID, **settings)
    table = first.assign(
        p_top=batch.top.numpy(), p_bottom=batch.bottom.numpy(), reliable=batch.reliable.numpy()
    )
    off = errors(table[table.reliable & (table.occluder == "none")])
    rows.append(
        settings
        | {"reliable %": 100 * table.reliable.mean()}
        | {side: off[f"{side}, prior"] for side in ("upper", "lower")}
    )
pd.DataFrame(rows).rename(columns={"upper": "upper error %", "lower": "lower error %"}).round(4)

# %% [markdown]
# Asking for four times as much head or leg loses many priors and hardly improves the others; asking
# for a quarter gains few. The binarisation matters more: a low threshold draws the boundaries too
# wide, a high one loses heads and feet. 0.5, "at least half of the cell is body", is the neutral
# choice and the best of the three.
#
# ## From prior to part features: MPN's Fig. 5(b)
#
# The feature map F [B, C, 24, 8] of an image becomes K part maps in three steps: multiply by M,
# crop the rows of the ROI and resize them bilinearly to 24 rows, cut in K stripes. Table 2 of the
# paper compares three inputs: `uniform` (only the last step), `roi` (without M), and `roi-mask`
# (all). Derived for one image with `interpolate`:

# %%
from torch.nn.functional import interpolate

from reidkit.priors import part_features


def our_parts(F, mask, top, bottom, mode):
    """F [C, H, W] of one image -> [K, C, H/K, W]."""
    H = F.shape[1]
    if mode == "roi-mask":
        F = F * mask
    if mode != "uniform":
        crop = F[:, round(top * H) : round(bottom * H)]  # boundaries lie between rows
        F = interpolate(crop[None], size=F.shape[1:], mode="bilinear", align_corners=False)[0]
    return torch.stack(F.chunk(K, dim=1))


batch = priors.lookup(train_paths[:64])
F = torch.randn(64, 16, *GRID, generator=torch.Generator().manual_seed(SEED))
for mode in ("uniform", "roi", "roi-mask"):
    ours = torch.stack(
        [our_parts(f, m, float(t), float(b), mode) for f, m, t, b in zip(F, *batch[:3])]
    )
    kits = part_features(F, batch, K, mode)
    print(f"{mode:9} {tuple(kits.shape)}  max difference {float((ours - kits).abs().max()):.1e}")

# %% [markdown]
# `uniform` is exact. The other two agree up to rounding: the kit resizes all images in one matrix
# product.
#
# To see what it does, let the "feature map" be the picture itself, with M drawn at its size. Three
# pictures a person: the image, its six uniform stripes, and its six parts by `roi-mask`.

# %%
from reidkit.priors.coarse import PriorBatch

sound = lookup(t[(t.occluder == "none") & good]).query("reliable")
chosen = [
    sound[(sound.detector == d) & condition(sound)].index[1]
    for d, condition in (
        ("loose", lambda x: x.top > 0.15),
        ("loose", lambda x: x.bottom < 0.8),
        ("ok", lambda x: x.top > 0.12),
        ("legs", lambda x: x.bottom > 1.3),
    )
]
photos = np.stack([plt.imread(t.path[i]) for i in chosen])
F = torch.from_numpy(photos).permute(0, 3, 1, 2) / 255  # [4, 3, H, W]
small = priors.lookup([train_paths[i] for i in chosen])
mask = small.mask.repeat_interleave(H // GRID[0], 1).repeat_interleave(W // GRID[1], 2)  # [4, H, W]
batch = PriorBatch(mask, small.top, small.bottom, small.reliable)


# %%
def stacked(parts, gap=4):
    """[K, 3, h, W] -> one picture with white gaps between the parts."""
    padded = torch.nn.functional.pad(parts, (0, 0, 0, gap), value=1.0)  # [K, 3, h + gap, W]
    return padded.permute(0, 2, 3, 1).flatten(0, 1).clamp(0, 1).numpy()


uniform, aligned = (part_features(F, batch, K, mode) for mode in ("uniform", "roi-mask"))
pictures = [p for x, u, a in zip(photos, uniform, aligned) for p in (x, stacked(u), stacked(a))]
plots.image_grid(pictures, ["image", "uniform", "roi-mask"] * 4, columns=12, height=2.6)

# %% [markdown]
# Compare part 1 of the four people: with uniform division it is street for one and a face for the
# next; with the prior it is a head each time. The last box cut the legs, and the parts below are
# then stretched: the prior is coarse. These parts are the input of the auxiliary tasks, in training
# only. Notebook 03 builds the network around it.
#
# ## Play with it
#
# Walk through the steps with other images, thresholds and K: when does "drop the legs" flip the
# prior to "not reliable"?

# %%
from reidkit.panels.prior_stepper import PriorStepper

PriorStepper.from_dataset(ds)

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/02_solutions](solutions/02_solutions.ipynb).
#
# 1. `share` below is a resized union on a 4 x 3 grid. Which mask M (bool, 4 x 3) comes out of steps
#    4 and 5?
# 2. What are the boundaries `(top, bottom)` of that mask?
# 3. For the example image (`parsing`, `segmentation`): how many rows of the 24 does the ROI have
#    with `threshold=0.9`?

# %%
from exercises import check_exercise

share = np.array([[0.0, 0.1, 0.0], [0.4, 0.6, 0.1], [0.2, 0.5, 0.9], [0.1, 0.3, 0.2]])
answer_1 = None
answer_2 = None
answer_3 = None

print("1:", check_exercise("02.1", answer_1, share=share))
print("2:", check_exercise("02.2", answer_2, share=share))
example = {"parsing": parsing, "segmentation": segmentation, "grid": GRID}
print("3:", check_exercise("02.3", answer_3, **example))

# %% [markdown]
# ## Questionnaire
#
# **1. Why two tools, if the segmenter alone finds the whole person?**
# <details><summary>answer</summary>It cannot say whether head and legs are in the picture, so its
# first and last row may be a chest and a knee. And when it loses a band or everything, the parser
# fills in.</details>
#
# **2. The head is missing. Why not use the ROI of what is there?**
# <details><summary>answer</summary>Where the body would begin cannot be read off what is there: no
# precise boundary, as Sec. 3.2 says. Often the box has cut the head off; then both divisions begin
# at the picture's edge and are wrong alike. But where the parser has *lost* a head that is in the
# picture, the ROI would cut it away, and even division keeps it.</details>
#
# **3. The mask is on a grid of 24 x 8. Is that not much coarser than the maps?**
# <details><summary>answer</summary>It is as fine as the features it multiplies. And averaging over
# a cell makes it robust to the errors of the maps.</details>
#
# **4. What does the prior not know?**
# <details><summary>answer</summary>Where knees, hips or arms are: the stripes are equal, and a bent
# or half-hidden body is divided as if it stood straight. It is coarse, which is why the alignment
# of features in Sec. 3.5 is class-wise and forgiving.</details>
#
# **5. Why are priors not used at test time?**
# <details><summary>answer</summary>They cost two networks a gallery image, and their failures would
# hit the ranked list. The auxiliary tasks teach the main tasks in training, then leave.</details>
#
# ## Summary
#
# Count, unite, average, threshold, dilate, take the first and the last row: a page of array
# operations turns two imperfect maps into a body prior that is right to about a percent where it
# exists and nothing hides the body, follows the body when the box is off, and admits when it does
# not know. All numbers here are ours, on Sidewalk's imitated tools, whose failure rates are
# settings (`ToolRates`): they say how the pipeline behaves, not how good a real parser is. Next:
# [03 MPN step by step](03_mpn_step_by_step.ipynb).
