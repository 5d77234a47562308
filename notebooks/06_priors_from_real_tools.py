# %% [markdown]
# # 06 Priors from real tools
#
# **What you will learn.** How to get coarse priors for photographs: from maps that other programs
# wrote (in three label sets), or from two networks that the kit runs itself; what is cached and
# when it is built anew; how to look at thousands of priors at once; what goes wrong with real
# files, and what the kit says then.
#
# **Prerequisites.** [02 Coarse priors](02_coarse_priors.ipynb). The last part needs the package
# `transformers`.
#
# **Paper.** MPN, Sec. 3.2 and Fig. 4: the tools are a human parser trained on LIP ([44]) and a
# person segmenter ([45]).
#
# **Minutes.** 1 on a 2-core CPU, 1 on a GPU. With real networks instead of tiny ones: see the end.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "small"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0
WEIGHTS = None  # None: tiny networks with random weights. Real ones, downloaded on first use:
# WEIGHTS = {"segmentation_weights": "DEFAULT", "parsing_model": "mattmdjaga/segformer_b2_clothes"}

# %% [markdown]
# The maps of the first part are Sidewalk's, so that the answer is known. 400 training images are
# enough. Set `DATASET` to photographs and the networks of the last part see those; nothing is
# trained, whatever `PRESET` says.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from lesson import say
from matplotlib_inline.backend_inline import set_matplotlib_formats

from reidkit.data import load_dataset
from reidkit.priors import build_priors, image_paths, open_source, prior_sheet
from reidkit.reporting import plots

set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})  # a tenth of PNG's bytes
ds = load_dataset(**DATASET, root=ROOT)
sidewalk = ds
if DATASET["name"] != "sidewalk":
    sidewalk = load_dataset("sidewalk", root=ROOT, size="small")
few = replace(sidewalk, train=sidewalk.train.head(400))
GRID = (24, 8)
paths = image_paths(few, "train")
print(len(paths), "images, such as", paths[0])

# %% [markdown]
# ## Three label sets
#
# Parsers are trained on one of three sets of labels. The pipeline speaks LIP, the paper's choice;
# the other two are translated by *name*. What LIP lacks becomes what a LIP parser would make of it:
# a bag is background (Fig. 4a), a belt is upper clothes.

# %%
from reidkit.priors.labels import (
    HEAD_LABELS,
    LABEL_SETS,
    LEG_LABELS,
    LIP_LABELS,
    TO_LIP,
    label_table,
)

ours = {
    name: [LIP_LABELS.index(TO_LIP[label]) for label in labels]
    for name, labels in LABEL_SETS.items()
}
print(
    "equal to the kit's tables:", {name: ours[name] == label_table(name).tolist() for name in ours}
)
rows = max(len(labels) for labels in LABEL_SETS.values())
table = {}
for name, labels in LABEL_SETS.items():
    padded = [*labels] + [""] * (rows - len(labels))
    table[name] = padded
    if name != "lip":
        table[f"{name} becomes"] = [TO_LIP[label] if label else "" for label in padded]
pd.DataFrame(table).rename_axis("label")

# %% [markdown]
# Step 1 of the pipeline counts head and leg pixels. Which labels can it count in each set?

# %%
rows = {}
for name, labels in LABEL_SETS.items():
    in_lip = label_table(name)
    rows[name] = {
        "head": ", ".join(l for l, i in zip(labels, in_lip) if i in HEAD_LABELS),
        "legs": ", ".join(l for l, i in zip(labels, in_lip) if i in LEG_LABELS),
    }
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame(rows).T)

# %% [markdown]
# ## Maps of another program: tool `files`
#
# The maps lie in two folders that mirror the data set. For
# `bounding_box_train/0002_c1s1_000451_03.jpg` they are
# `<parsing_dir>/bounding_box_train/0002_c1s1_000451_03.png` and the same name below
# `<segmentation_dir>`. A parsing map is a PNG whose pixel *index* is the label (palette or grey, as
# SCHP and most parsers write it); a segmentation map is a mask, or a probability times 255.
#
# To try it, write Sidewalk's parsing maps in the two other label sets, as if three parsers had seen
# the images.

# %%
import tempfile

from PIL import Image

temporary = tempfile.TemporaryDirectory()
work = Path(temporary.name)
TO_ATR = {"glove": "left-arm", "coat": "upper-clothes", "socks": "left-leg", "jumpsuits": "dress"}
TO_PASCAL = {
    **dict.fromkeys(["hat", "hair", "sunglasses", "face"], "head"),
    **dict.fromkeys(["upper-clothes", "dress", "coat", "jumpsuits", "scarf"], "torso"),
    **dict.fromkeys(["glove", "left-arm", "right-arm"], "lower-arms"),
    **dict.fromkeys(["pants", "skirt", "left-leg", "right-leg"], "upper-legs"),
    **dict.fromkeys(["socks", "left-shoe", "right-shoe"], "lower-legs"),
}
maps = open_source(sidewalk, "sidewalk").maps(paths)
palette = plots.LIP_COLOURS.ravel().tolist()

# %%
for name, names in {"lip": {}, "atr": TO_ATR, "pascal": TO_PASCAL}.items():
    translate = np.array(
        [LABEL_SETS[name].index(names.get(label, label)) for label in LIP_LABELS], np.uint8
    )
    for path, (parsing, _) in zip(paths, maps):
        file = work / name / Path(path).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(translate[parsing])  # the pixel value is the label
        image.putpalette(palette)  # colours are for human eyes
        image.save(file)
print(
    sorted(p.name for p in work.iterdir()),
    "each with",
    len(list((work / "atr").rglob("*.png"))),
    "maps",
)

# %% [markdown]
# **Predict:** the same maps in three label sets. Which step of the pipeline can come out
# differently?

# %%
segmentations = sidewalk.root / "segmentation"


def priors_from(folder, label_set, **options):
    """The priors of the 400 images from maps in a folder; cached in the same folder."""
    options = {"out": work / f"{folder}-{label_set}.npz"} | options
    return build_priors(
        few,
        "files",
        grid=GRID,
        parsing_dir=work / folder,
        segmentation_dir=segmentations,
        label_set=label_set,
        progress=False,
        **options,
    )


# %%
def changed_priors(tables, reference):
    """How many of the images get another prior than in the reference."""
    rows = {
        name: {
            "reliable": t.reliable.sum(),
            "other verdict": (t.reliable != reference.reliable).sum(),
            "other mask": (t.masks != reference.masks).any((1, 2)).sum(),
            "largest change of a boundary": np.abs(t.top - reference.top).max(),
        }
        for name, t in tables.items()
    }
    return pd.DataFrame(rows).T.astype({"reliable": int, "other verdict": int, "other mask": int})


tables = {name: priors_from(name, name) for name in LABEL_SETS}
changed_priors(tables, tables["lip"])

# %% [markdown]
# The union asks only "is it body?", so masks differ only where the verdict does. ATR keeps all that
# step 1 counts. Pascal has no clothes, and we wrote a skirt as "upper legs": a person whose legs do
# not show below a skirt counts as having legs, and gets a prior that LIP would refuse. It is rare.
# What the parser found in such images:

# %%
changed = np.flatnonzero(tables["pascal"].reliable != tables["lip"].reliable)
for row in changed[:4]:
    print(Path(paths[row]).name, [LIP_LABELS[label] for label in np.unique(maps[row][0])])

# %% [markdown]
# ### The error that no single map shows
#
# An ATR map read as LIP is a valid map: its labels 0..17 are all LIP labels, only other ones. Step
# 1 would count the wrong things:

# %%
from reidkit.priors import coarse_priors

atr_maps = [np.asarray(Image.open(work / "atr" / Path(path).with_suffix(".png"))) for path in paths]
atr = LABEL_SETS["atr"]
print("counted as head:", [atr[i] for i in HEAD_LABELS if i < len(atr)])
print("counted as legs:", [atr[i] for i in LEG_LABELS if i < len(atr)])
mistaken = coarse_priors(
    np.stack(atr_maps), np.stack([segmentation for _, segmentation in maps]), GRID
)
print(
    f"reliable: {tables['atr'].reliable.mean():.0%} read as ATR, "
    f"{mistaken.reliable.float().mean():.0%} read as LIP"
)

# %% [markdown]
# Upper clothes pass for a head, and trousers for nothing; training would go on with bad priors. One
# map cannot show it, but 400 can: every label has its place and its size. How high does each label
# lie in the body, and how much of the body does it cover?
#
# **Predict:** which names give the mistake away when these maps are read as LIP?

# %%
from reidkit.priors.anatomy import PLACES, implausible
from reidkit.priors.census import LabelCensus

census = LabelCensus()
for labels in atr_maps:
    census.add(labels)
used = np.flatnonzero(census.pixels[1:]) + 1
pd.DataFrame(
    {
        "in ATR": [atr[i] for i in used],
        "in LIP": [LIP_LABELS[i] for i in used],
        "height in the body %": 100 * census.heights[used] / census.pixels[used],
        "share of the body %": 100 * census.pixels[used] / census.pixels[1:].sum(),
        "at most %, if LIP": [100 * PLACES[LIP_LABELS[i]].most for i in used],
    },
    index=used,
).round(1)

# %% [markdown]
# Sunglasses that cover half of the body, a face at its feet. `build_priors` keeps these counts
# while it reads, and refuses such maps after the first batch (of 64 or more; here 256)
# and again at the end:

# %%
from reidkit.errors import PriorError

for name in LABEL_SETS:
    print(
        f"read as {name}: {sum(implausible(census, name).values()):.0%} of the body is implausible"
    )
try:
    priors_from("atr", "lip")
except PriorError as error:
    say(str(error).partition(" The maps were read")[0])

# %% [markdown]
# It also notices masks in the place of parsing maps, labels in the place of masks, and folders that
# were swapped. What it cannot notice is a parser that works badly. Two things can: the share of
# reliable priors (it should be near what you expect of the data) and a look at a contact sheet. So
# look.
#
# ## Look at all of them
#
# `prior_sheet` sorts by `prior_quality`, a rule of thumb: tall ROI, no empty rows in it, an area
# like the others'. Each case: photograph, parsing, segmentation, and the mask with its stripes.
# First what was not reliable, then the most doubtful, then the best.

# %%
source = open_source(few, "files", parsing_dir=work / "lip", segmentation_dir=segmentations)
sheet = prior_sheet(few, tables["lip"], source=source, count=4, height=140, per_row=4, seed=SEED)
plots.image_grid([sheet], height=sheet.height / 100)

# %% [markdown]
# Is the rule of thumb any good? On Sidewalk the true boundaries are known. Reliable priors in four
# groups by quality, from the most doubtful quarter to the best, with the mean error of their
# boundaries:

# %%
from reidkit.priors import prior_quality

t = few.train.assign(quality=prior_quality(tables["lip"]), reliable=tables["lip"].reliable)
t["upper error %"] = 100 * np.abs(tables["lip"].top - t.top.clip(0, 1))
t["lower error %"] = 100 * np.abs(tables["lip"].bottom - t.bottom.clip(0, 1))
t["tool failed %"] = 100.0 * (t.tool_faults != "-")
t["occluded %"] = 100.0 * (t.occluder != "none")
t = t[t.reliable]
t["quarter"] = pd.qcut(t.quality, 4, labels=["doubtful", "2nd", "3rd", "best"])
columns = ["quality", "upper error %", "lower error %", "tool failed %", "occluded %"]
t.groupby("quarter", observed=True)[columns].mean().round(2)

# %% [markdown]
# The doubtful quarter is where the errors are, most of them where something hides the feet. Good
# enough for choosing what to look at; it is not a measurement, and nothing in training depends on
# it.
#
# ## What is cached, and when it is built anew
#
# Priors are computed once and kept in one small file with a **manifest**: how they were made, and
# from what. The file stays valid while settings and map files are the same. (`told` prints results,
# warnings and errors, with long folder names shortened.)

# %%
import time
from functools import partial

import lesson

told = partial(lesson.told, SIDEWALK=sidewalk.root, WORK=work)


def listed(manifest):
    """One line an entry."""
    return "\n".join(f"{name}: {value}" for name, value in manifest.items())


told(lambda: listed(tables["lip"].manifest))
print("file:", (work / "lip-lip.npz").stat().st_size, "bytes for", len(tables["lip"]), "images")


# %%
def seconds(call):
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


print(f"built anew     {seconds(lambda: priors_from('lip', 'lip', rebuild=True)):.2f} CPU seconds")
print(f"from the cache {seconds(lambda: priors_from('lip', 'lip')):.2f}")
file = work / "lip" / Path(paths[0]).with_suffix(".png")
Image.open(file).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file)  # someone changes one map
before, after = tables["lip"], priors_from("lip", "lip")
print(f"one map changed: {int((before.stamps != after.stamps).sum())} row computed again")
trial = work / "trial.npz"
told(lambda: priors_from("lip", "lip", out=trial).summary())
told(lambda: priors_from("lip", "lip", out=trial, threshold=0.4).summary())

# %% [markdown]
# ## When files are bad
#
# Real folders have holes. Each cell plants one fault, shows what is said, and repairs it.

# %%
good = file.read_bytes()
print("--- announced as Pascal, but it is LIP")
told(lambda: priors_from("lip", "pascal"))
print("\n--- a map of another size than its image")
Image.fromarray(np.zeros((100, 40), np.uint8)).save(file)
told(lambda: priors_from("lip", "lip"))
print("\n--- a picture in colours instead of indices")
Image.fromarray(plots.LIP_COLOURS[maps[0][0]]).save(file)
told(lambda: priors_from("lip", "lip"))
print("\n--- half a file")
file.write_bytes(good[: len(good) // 2])
told(lambda: priors_from("lip", "lip"))
print("\n--- a tool that does not exist")
told(lambda: build_priors(few, "segformer", grid=GRID))
_ = file.write_bytes(good)

# %% [markdown]
# Images without maps are an error that lists them. Or, *if you ask for it*, they are divided evenly
# and counted.

# %%
hidden = [work / "lip" / Path(p).with_suffix(".png") for p in paths[10:17]]
for f in hidden:
    f.rename(f.with_suffix(".hidden"))
told(lambda: priors_from("lip", "lip"))
print()
told(lambda: priors_from("lip", "lip", missing="unreliable").summary())
for f in hidden:
    f.with_suffix(".hidden").rename(f)

# %% [markdown]
# A bad file in the middle stops a build, but nothing computed is lost: the next call goes on from
# there.

# %%
from reidkit.priors import PriorTable

middle, out = (
    work / "lip" / Path(paths[5 * len(paths) // 8]).with_suffix(".png"),
    work / "stopped.npz",
)
good = middle.read_bytes()
middle.write_bytes(b"")
told(lambda: priors_from("lip", "lip", out=out, batch_size=50))
print("\nkept:", len(PriorTable.load(out)), "of", len(paths))
middle.write_bytes(good)
told(lambda: priors_from("lip", "lip", out=out, batch_size=50).summary())

# %% [markdown]
# ## Maps from networks: tool `torchvision+segformer`
#
# No maps at hand? The kit runs two networks: a torchvision segmentation network finds the person, a
# SegFormer trained on clothes (ATR labels) names the parts. Each library downloads its weights on
# first use, on *your* machine, or takes them from a path.
#
# This page was made **without** a download. With `WEIGHTS = None` the two networks are tiny or
# untrained, with random weights, saved to disk and loaded by the very code that loads real ones.
# **So the maps below are noise.** What you see is that the path works, not how well the tools do.


# %%
def save_random_networks(folder):
    """Two checkpoints as real ones are stored; returns the options that point to them."""
    import transformers

    torch.manual_seed(SEED)
    network = models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=21
    )
    torch.save(network.state_dict(), folder / "lraspp.pth")
    config = transformers.SegformerConfig(
        num_labels=18,
        id2label=dict(enumerate(LABEL_SETS["atr"])),
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        mlp_ratios=[1, 1, 1, 1],
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder / "segformer")
    transformers.SegformerImageProcessor().save_pretrained(folder / "segformer")
    return {
        "segmentation_model": "lraspp_mobilenet_v3_large",
        "segmentation_weights": folder / "lraspp.pth",
        "parsing_model": folder / "segformer",
    }


# %%
import torch
from torchvision import models

networks = WEIGHTS or save_random_networks(work)
networks["device"] = "cuda" if torch.cuda.is_available() else "cpu"
print(sorted(p.name for p in (work / "segformer").iterdir()) if WEIGHTS is None else networks)

# %%
photos = replace(ds, train=ds.train.iloc[:: max(1, len(ds.train) // 24)].head(24))
out = work / "networks.npz"
noise = build_priors(
    photos, "torchvision+segformer", grid=GRID, out=out, batch_size=8, progress=False, **networks
)
print(noise.summary())
told(lambda: listed(noise.manifest))

# %%
source = open_source(photos, "torchvision+segformer", **networks)
sheet = prior_sheet(photos, noise, source=source, count=3, height=120, per_row=3, seed=SEED)
plots.image_grid([sheet], height=sheet.height / 100)

# %% [markdown]
# Noise indeed (unless you have set `WEIGHTS`), and yet look at the share of "reliable" priors
# above: counting pixels cannot tell noise from a head, and the rule of thumb is fooled too. Eyes
# are not.
#
# A check on the loading code is that the same maps come out when each network is called by hand,
# without the kit: enlarge the image to 512 x 256, normalise, run, resize, take the largest score,
# translate ATR to LIP.

# %%
from torch.nn.functional import interpolate

from reidkit.priors.networks import load_parser

image = (
    torch.from_numpy(np.array(plt.imread(photos.train.path.iloc[0]))).permute(2, 0, 1)[None].float()
    / 255
)
large = interpolate(image, size=(512, 256), mode="bilinear", antialias=True).clamp(0, 1)
# SegFormer with its own mean and standard deviation
parser = load_parser(networks["parsing_model"])
with torch.inference_mode():
    logits = parser.network((large - parser.mean) / parser.std).logits  # [1, 18, 128, 64]
    logits = interpolate(logits, size=image.shape[-2:], mode="bilinear", antialias=True)
by_hand = label_table("atr")[logits[0].argmax(0).numpy()]
source = open_source(photos, "torchvision+segformer", **networks | {"device": "cpu"})
by_kit = source.maps(image_paths(photos, "train")[:1])[0][0]
print(
    f"labels equal in {np.mean(by_hand == by_kit):.2%} of the pixels; labels found: "
    f"{np.unique(by_kit).tolist()}"
)

# %% [markdown]
# ### With real weights, on your machine
#
# Set `WEIGHTS` in the settings cell and `DATASET` to your photographs, or in a shell:
#
# ```text
# reidkit priors build market1501 --tool torchvision+segformer --device cuda
# reidkit priors build market1501 --tool files --parsing maps/parsing --segmentation maps/person
# reidkit train mpn --dataset market1501 --preset paper --prior-tool files
# ```
#
# The first line downloads both networks (`--segmentation-weights` and `--parsing-model` take paths
# instead), the second reads what another tool has written; one of them is enough. `reidkit train`
# finds what they made.
#
# - Priors are needed for **training images only**: 12,936 on Market-1501. `--splits all` is for the
#   row "Baseline (UB)", which needs them at test, too.
# - Interrupt and call again: it goes on where it was.
# - Then look at the contact sheet that it writes beside the priors, and at the share of reliable
#   priors, *before* you train for a day.
# - To use the paper's parser, run a LIP network of SCHP on each split folder, and keep the folder
#   names below one `parsing_dir`. To use others, write index PNGs in one of the three label sets.
# - The kit's authors could not run real weights where this page was made. What real tools reach on
#   your photographs is for you to see.
#
# Networks can be unusable as well. A checkpoint whose labels nobody can translate:

# %%
from reidkit.priors.labels import to_lip_table

told(lambda: to_lip_table(["background", "wall", "sky", "person"], "the parsing model ade20k"))
print()
told(
    lambda: build_priors(
        photos,
        "torchvision+segformer",
        grid=GRID,
        out=work / "x.npz",
        progress=False,
        **networks | {"segmentation_weights": work / "gone.pth"},
    )
)
temporary.cleanup()

# %% [markdown]
# ## Play with it
#
# Step through the pipeline on single images: notebook 02 and the dashboard (12) have the panel.

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/06_solutions](solutions/06_solutions.ipynb).
#
# 1. Which LIP label number does ATR's label 16 become, and why is that right for a *union*?
# 2. Which Pascal label numbers count as legs? A list, ascending.
# 3. A parser of your own has five labels: background, head, upper body, lower body, shoes. Write
#    the list of the five LIP label numbers they should become.

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None
answer_3 = None

print("1:", check_exercise("06.1", answer_1))
print("2:", check_exercise("06.2", answer_2))
print("3:", check_exercise("06.3", answer_3))

# %% [markdown]
# ## Questionnaire
#
# **1. Why are labels translated by name and not by number?**
# <details><summary>answer</summary>Checkpoints order labels as they like. Names in their
# `config.json` say what a number means; a name that nobody knows is an error instead of a wrong
# prior.</details>
#
# **2. Maps in ATR are read as LIP. Which check notices?**
# <details><summary>answer</summary>None that looks at single files: each value is a valid label.
# Over a set of maps the labels lie in the wrong places and have the wrong sizes.</details>
#
# **3. Why is an image without maps an error by default?**
# <details><summary>answer</summary>Usually a folder was forgotten. Dividing thousands of images
# evenly without a word would turn MPN into its uniform variant (Table 2). Whoever wants that says
# `missing="unreliable"`, and it is counted.</details>
#
# **4. One map file was written anew. What does the next build compute?**
# <details><summary>answer</summary>That image's prior only: each row carries a stamp of its files'
# sizes and dates.</details>
#
# **5. What do the pictures from the random networks prove?**
# <details><summary>answer</summary>That checkpoints load, maps come out at the image's size in LIP
# labels, and priors are built and cached. Nothing about quality.</details>
#
# ## Summary
#
# Two folders of maps, or two networks, become one cached table of priors. Names translate label
# sets, stamps tell what changed, errors name the file, and a sheet of the worst cases shows what no
# check can. All numbers here are ours, on Sidewalk. Next: [07 CGPN step by
# step](07_cgpn_step_by_step.ipynb).
