# %% [markdown]
# # 07 CGPN step by step
#
# **What you will learn.** How CGPN is built and trained, line by line: one trunk and three
# branches, the coarse stripe groups, global features that are taught by the two halves of the body,
# every loss from Eq. 1 to Eq. 4, and what all this costs beside MGN, its nearest relative. Each
# piece is derived in a few lines and compared with the same piece of the kit.
#
# **Prerequisites.** [00 Start here](00_start_here.ipynb), [01 Data and the misalignment
# problem](01_data_and_misalignment.ipynb) (why fixed stripes fail), PyTorch, batch normalisation.
# MPN is not needed.
#
# **Paper.** CGPN (the robust coarse granularity part-level network), Sec. 3.1 and 3.2, Fig. 2 to 4,
# Eq. 1 to 4; Sec. 4.4 for Fig. 4.
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
# ## The idea in three sentences
#
# A fine stripe (a quarter of the picture, say) shows a knee in one image and a car in the next.
# CGPN compares *coarse* stripes, each at least half of the picture high, so that enough of the body
# is in each. And it teaches its global features what the upper and the lower body look like, so
# that they do not listen to whatever stands in front.
#
# A batch to work with: P identities with K images each (Sec. 4.2).

# %%
import figures
import numpy as np
import pandas as pd
import torch

from reidkit import losses
from reidkit.data import load_dataset
from reidkit.data.loaders import train_loader
from reidkit.data.transforms import normalize
from reidkit.models import create_model
from reidkit.training import recipe_for

ds = load_dataset(root=ROOT, **DATASET)
recipe = recipe_for("cgpn", PRESET)
torch.manual_seed(SEED)
model = create_model("cgpn", ds.num_train_ids, backbone=recipe.backbone, **recipe.model).train()

loader = train_loader(ds, size=recipe.size, num_ids=8, num_instances=4, seed=SEED)
batch = next(iter(loader))
pixels, images, labels = batch.images, normalize(batch.images), batch.labels
print(f"images {tuple(images.shape)}, {len(labels.unique())} identities")
figures.grid(pixels.permute(0, 2, 3, 1)[:16], columns=16, height=1.9)

# %% [markdown]
# One habit of this notebook: `compare` says whether two results are bit for bit the same, the same
# up to rounding, and how far apart they are. A cell near the end counts how many comparisons
# agreed.

# %%
from lesson import AGREED, compare, say

# %% [markdown]
# ## The structure (Sec. 3.1, Fig. 2)
#
# "The ResNet-50 backbone is split into three branches after res_conv4_1 block. Each branch consists
# of a global part and a local part." What stands before the split exists once (the *trunk*), what
# stands after it three times (the *tails*): the rest of ResNet's stage 4 and stage 5.
#
# **Predict.** A 384 x 128 image: how many rows and columns has the map at the split, and at the end
# of a tail? The published ResNet-50 halves the map once more after the split.

# %%
with torch.device("meta"):  # tensors with a shape and no content: nothing is computed
    # ResNet-50, 256 channels, Market-1501's 751 identities
    paper_model = create_model("cgpn", 751).train()
    trunk = paper_model.shared(torch.empty(8, 3, 384, 128))
    tails = tuple(tail(trunk) for tail in paper_model.tails)
    paper_out = paper_model.heads(tails, with_aux=True)

walk = {
    "trunk, at the split": trunk[0],
    "map T of each branch: c x h x w": tails[0][0],
    "fg_p of a branch, p = 1, 2: c": paper_out.supervision[0][0][0],
    "all features, reduced": paper_out.part_features[0],
    "test feature": paper_out.embedding[0],
}
pd.DataFrame({k: ["x".join(map(str, v.shape))] for k, v in walk.items()}).T.rename(
    columns={0: "ResNet-50, 384x128"}
)

# %% [markdown]
# The map at the end is as large as the map at the split: the last down-sampling is removed, as in
# PCB, MGN's local branches and MPN. The paper does not say so; with 24 rows a quarter has six of
# them, with the 12 of the published ResNet-50 it would have three.
#
# Figure 2 in a drawing made from the model itself, so it cannot disagree with the code.

# %%
branches, c = model.config.branches, paper_model.channels
figures.cgpn_structure(branches, c, model.num_parts)

# %% [markdown]
# ## Three branches, one start (Sec. 4.2)
#
# "Different branches in the network are all initialized with the same pre-trained weights of
# corresponding layers after res_conv4_1 block." So at the start three tails compute the same map
# three times.
#
# **Predict.** After one step of training, do they still? And if all three branches had the *same*
# stripe groups?

# %%
with torch.no_grad():
    trunk = model.shared(images)
    maps = tuple(tail(trunk) for tail in model.tails)
compare("map of branch 1 and of branch 2", maps[0], maps[1])
compare("map of branch 1 and of branch 3", maps[0], maps[2])


def tail_distance(model):
    """Largest relative distance between the weights of two tails."""
    w = [torch.cat([p.flatten() for p in tail.parameters()]) for tail in model.tails]
    return max((a - b).norm().item() for a in w for b in w) / w[0].norm().item()


def one_step(model):
    """One step of plain SGD with the losses of Eq. 4; returns the distance of the tails before and
    after."""
    before = tail_distance(model)
    loss, _ = losses.total_loss(model(images), labels, CGPN_LOSS)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    return {"before": before, "after one step": tail_distance(model)}


# %%
from dataclasses import replace

from reidkit.models.stripes import BRANCH_1
from reidkit.models.zoo import variant

CGPN_LOSS = variant("cgpn").loss
twins = tuple(replace(BRANCH_1, name=f"twin{i}") for i in range(3))
systems = {}
for name in ("CGPN", "three twin branches", "twins, heads equal too"):
    torch.manual_seed(SEED)
    settings = recipe.model if name == "CGPN" else {**recipe.model, "branches": twins}
    systems[name] = create_model(
        "cgpn", ds.num_train_ids, backbone=recipe.backbone, **settings
    ).train()


# %%
with torch.no_grad():  # give the last one equal heads: copy those of the first branch
    last, d = systems["twins, heads equal too"], recipe.model.get("reduced_dim", 256)
    for conv in last.global_convs:
        conv.load_state_dict(last.global_convs[0].state_dict())
    last.reduce_global.conv.weight[:] = last.reduce_global.conv.weight[:1]
    for start in (0, 2, 4):  # two local features a branch
        last.reduce_local.conv.weight[start : start + 2] = last.reduce_local.conv.weight[:2]
        last.classifier.weight[3 + start : 5 + start] = last.classifier.weight[3:5]
    last.classifier.weight[:3] = last.classifier.weight[:1]
parting = pd.DataFrame({name: one_step(model) for name, model in systems.items()}).T
parting.map("{:.1e}".format)

# %% [markdown]
# Two things tear the branches apart: different stripes, and different random numbers in the heads.
# With both equal, the three tails receive the same gradient for ever (up to rounding): two of them
# would be wasted.
#
# ## Coarse stripe groups (Sec. 3.1, Fig. 3)
#
# "The combined part stripes must be adjacent and the minimum height proportion of combined local
# features should be no less than half of the output feature maps." That is a rule, so we write it
# as one: cut the map in n stripes, take all runs of adjacent stripes that cover at least half of
# it, but not all of it.


# %%
def coarse_groups(n):
    """[(first, one past the last)] of every run of adjacent stripes, out of n, that covers 1/2 or
    more, not all."""
    return [(a, a + size) for size in range(1, n) for a in range(n - size + 1) if 2 * size >= n]


from reidkit.models.stripes import BRANCH_2, BRANCH_3, BRANCH_4, BRANCH_5, fine

for n, branch in enumerate((BRANCH_1, BRANCH_2, BRANCH_3, BRANCH_4, BRANCH_5), start=2):
    kit = [(group.start, group.stop) for group in branch.groups]
    same = "the same as the kit's" if coarse_groups(n) == kit else f"NOT the kit's {kit}"
    AGREED.append(coarse_groups(n) == kit)
    say(f"branch {branch.name}, {n} stripes: {coarse_groups(n)}, {same}")


# %% [markdown]
# Figure 3, drawn from the kit's one table of stripe groups (`reidkit/models/stripes.py`): the
# network, the figures and the CGPN panel all read it. A filled part is what one local feature sees.

# %%
figures.stripe_groups(branches, "CGPN: coarse stripe groups (Fig. 3)")

# %%
figures.stripe_groups(fine(2, 3, 4), "CGPN-2: fine stripes, for the ablation of Sec. 4.4 (Fig. 4)")

# %% [markdown]
# ### Where the paper contradicts itself
#
# You may have looked at the paper's third branch and stumbled. The text of Sec. 3.1 says that
# adjacent stripes of four give "three 1/2 proportion and two 2/3 proportion local features"; the
# same sentence lists their sizes as c x (3h/4) x w three times and c x (h/2) x w twice. Both cannot
# be right. Count:

# %%
from collections import Counter
from fractions import Fraction

adjacent = Counter(Fraction(b - a, 4) for a, b in coarse_groups(4))
claims = {
    "the paper's text": {Fraction(1, 2): 3, Fraction(2, 3): 2},
    "the paper's sizes": {Fraction(3, 4): 3, Fraction(1, 2): 2},
    "adjacent groups of 4 stripes": adjacent,
}
heights = [Fraction(1, 2), Fraction(2, 3), Fraction(3, 4)]
table = pd.DataFrame(
    {name: [count.get(h, 0) for h in heights] for name, count in claims.items()},
    index=[f"covers {h} of the map" for h in heights],
).T
for name, count in claims.items():
    table.loc[name, "possible with adjacent stripes"] = (
        "yes" if dict(count) == dict(adjacent) else "no"
    )
table.astype(str)

# %% [markdown]
# Two thirds of four stripes is no whole number of stripes, and of four stripes only two *triples*
# are adjacent (1-2-3 and 2-3-4). The text has the counts right (three pairs, two triples) and one
# fraction wrong; the sizes have the fractions right and the counts exchanged. Read together they
# agree with the rule, so the kit builds **three groups of h/2 and two of 3h/4**.
#
# Branches 4 and 5 of the paper's Table 4 are not described at all. The kit assumes that the series
# goes on: five stripes, then six, and the same rule.
#
# ### Maps whose height does not divide
#
# 24 rows divide by 2, 3, 4 and 6. Other image sizes give other maps: the quick preset has 18 rows,
# which quarters do not divide. The kit moves a border to the nearest row.
#
# **Predict.** Rows of the first half on a map of 23 rows, by Python's `round`? And of a map with
# 25?

# %%
HEIGHTS = (24, 18, 23, 25, 9)
groups = [(b.name, g) for b in branches for g in b.groups]


def rows_by_hand(group, height):
    return tuple(round(height * stripe / group.of) for stripe in (group.start, group.stop))


kit_rows = {h: [group.rows(h) for _, group in groups] for h in HEIGHTS}
agree = all(rows_by_hand(g, h) == g.rows(h) for _, g in groups for h in HEIGHTS)
AGREED.append(agree)
print("by hand as in the kit:", agree)
table = pd.DataFrame(
    {f"h = {h}": [f"{a}-{b} ({(b - a) / h:.0%})" for a, b in rows] for h, rows in kit_rows.items()},
    index=[f"{name} {group.name}" for name, group in groups],
)
table.rename_axis("rows (share of the map)")

# %% [markdown]
# Neighbours share their border, so no row is lost or counted twice inside a cut: where the first
# half ends, the second begins. A half of an odd map gets one row more or less; `round` takes the
# even one of two equally near rows. A map that is too low for its stripes is an error, and says so:

# %%
from reidkit.errors import ReIDKitError

try:
    BRANCH_1.groups[0].rows(1)
except ReIDKitError as error:
    say("ReIDKitError:", error)

# %% [markdown]
# ## The global part (Sec. 3.1)
#
# "Two 1x1 convolution layers are applied to the output feature maps ... Each of the 1x1 convolution
# layers will output c-channel features." Then global max pooling (GMP) gives $fg_1$ and $fg_2$ with
# $c$ numbers each.
#
# A 1x1 convolution is a matrix product over channels, the same at every place of the map. Branch 1,
# by hand:

# %%
conv = model.global_convs[0]  # both 1x1 convs of branch 1
print(f"weights {tuple(conv.weight.shape)} = [2, c, c], bias {tuple(conv.bias.shape)}")


def mix_channels(x, weight, bias):
    """[B, c, h, w] -> [B, c, h, w]"""
    return torch.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]


def gmp(x):
    """Global max pooling: each channel's strongest answer, [B, c, h, w] -> [B, c]."""
    return x.amax((2, 3))


T = maps[0]  # the branch's map, [B, c, h, w]
fg_1, fg_2 = (gmp(mix_channels(T, conv.weight[p], conv.bias[p])) for p in (0, 1))
fg = torch.cat([fg_1, fg_2], dim=1)  # [B, 2c]
compare("fg_1, fg_2 of branch 1", torch.stack([fg_1, fg_2], 1), conv(T).amax((-2, -1)))
print(f"c = {T.shape[1]}, the global feature before its reduction has 2c = {fg.shape[1]} numbers")

# %% [markdown]
# **Supervision.** "The output feature maps are uniformly divided into two parts in the vertical
# direction, and a global pooling is applied to each of them": $fgl_1$ from the upper half, $fgl_2$
# from the lower one. While training, Eq. 3 pulls $fg_1$ to $fgl_1$ and $fg_2$ to $fgl_2$.

# %%
half = T.shape[2] // 2
fgl_1, fgl_2 = gmp(T[:, :, :half]), gmp(T[:, :, half:])

out = model.heads(maps, with_aux=True)
print(f"{len(out.supervision)} pairs (fg_p, fgl_p): 3 branches x 2 parts")
compare("fg_1, branch 1", fg_1, out.supervision[0][0])
compare("fgl_1, branch 1", fgl_1, out.supervision[0][1])
compare("fgl_2, branch 1", fgl_2, out.supervision[1][1])

# %% [markdown]
# ### What can a 1x1 convolution know about "upper" and "lower"?
#
# **Predict.** Shuffle the rows of the map $T$, as if the person were cut in slices and stacked at
# random. Does $fg_1$ change? Does its teacher $fgl_1$?

# %%
order = torch.randperm(T.shape[2], generator=torch.Generator().manual_seed(SEED))
shuffled = T[:, :, order]
change = {
    "fg_1, the pupil": (fg_1, gmp(mix_channels(shuffled, conv.weight[0], conv.bias[0]))),
    "fgl_1, the teacher": (fgl_1, gmp(shuffled[:, :, :half])),
}
for name, (before, after) in change.items():
    print(f"{name:20s} relative change {((before - after).norm() / before.norm()).item():.1e}")

# %% [markdown]
# Its own layers cannot tell the pupil *where* anything is: a 1x1 conv treats all places alike and
# GMP forgets the place. To follow its teacher it has to listen to **channels** that answer to upper
# bodies. The teacher is tied to a place in the picture, the pupil to a look. That is why the pupil
# may stay right when the box is cut, and it is the same idea as MPN's main task (notebook 03). (A
# second way is open: the backbone pads its maps with zeros, so that some channels know how far the
# edge is, and one of them may answer to "high in the picture" whatever stands there.)
#
# One more thing to see what Eq. 3 asks for.
#
# **Predict.** Let conv 1 be the identity (output channel = input channel). What is $fg_1$ then, in
# terms of $fgl_1$ and $fgl_2$, and where does it miss its target?

# %%
identity = torch.eye(T.shape[1])
fg_identity = gmp(mix_channels(T, identity, torch.zeros(T.shape[1])))
compare("identity conv: max(fgl_1, fgl_2)", fg_identity, torch.maximum(fgl_1, fgl_2))
wrong = (fg_identity != fgl_1).float().mean().item()
print(f"it misses fgl_1 in {wrong:.0%} of all numbers: where the lower half answers more strongly")

# %% [markdown]
# ## The local part
#
# Each stripe group is max-pooled over its own rows and columns. ("Max pooling with different kernel
# sizes" in the paper is this: the kernel is as large as the group.) Then every feature, global or
# local, gets its own reduction: a 1x1 conv without bias and a batch norm, to 256 channels. On a
# pooled vector a 1x1 conv is a matrix product.


# %%
def reduction(x, weight, norm, k):
    """Feature k: [B, in] -> matrix -> batch norm over this batch -> [B, out]."""
    y = x @ weight.T
    own = slice(k * norm.dim, (k + 1) * norm.dim)
    return (y - y.mean(0)) / (y.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight[
        own
    ] + norm.bias[own]


features = []
for i, (m, conv) in enumerate(zip(maps, model.global_convs)):  # global: one a branch
    fg = torch.cat([gmp(mix_channels(m, conv.weight[p], conv.bias[p])) for p in (0, 1)], dim=1)
    features.append(reduction(fg, model.reduce_global.conv.weight[i], model.reduce_global.norm, i))
k = 0
for m, branch in zip(maps, branches):  # local: branch by branch, group by group
    for group in branch.groups:
        first, end = group.rows(m.shape[2])
        fl = gmp(m[:, :, first:end])
        features.append(
            reduction(fl, model.reduce_local.conv.weight[k], model.reduce_local.norm, k)
        )
        k += 1
by_hand = torch.stack(features, dim=1)  # [B, 12, reduced]
compare("all features", by_hand, out.part_features)
compare("the embedding, side by side", by_hand.flatten(1), out.embedding)

# %% [markdown]
# **Predict** before you look: how many features, how many numbers in the test feature, and which
# feature stands first?

# %%
order = pd.DataFrame(
    {
        "branch": [branches[b].name for b, _ in paper_model.places],
        "sees": [
            "whole map" if g is None else f"rows {g.rows(24)[0]} to {g.rows(24)[1]} of 24"
            for _, g in paper_model.places
        ],
        "from": [2 * c if g is None else c for _, g in paper_model.places],
        "to": paper_model.config.reduced_dim,
    },
    index=paper_model.part_names,
)
print(
    f"{len(order)} x {order['to'].iloc[0]} = {order['to'].sum()} numbers; this preset: "
    f"{model.num_parts} x {out.part_features.shape[2]} = {out.embedding.shape[1]}"
)
AGREED.append(order["to"].sum() == 3072)
order.rename_axis("feature, in order")

# %% [markdown]
# The order is that of the paper's list {fg1, fg2, fg3, fl11, ...}. The teachers are not in it:
# "after the training stage finishes, the two part features are no longer needed".

# %%
model.eval()
with torch.no_grad():
    at_test = model(images)
print("pairs for Eq. 3 at test time:", len(at_test.supervision))
compare("embed() is the embedding", at_test.embedding, model.embed(images))
_ = model.train()

# %% [markdown]
# ## Eq. 1: every feature names the person
#
# A softmax loss for each of the twelve features, each with its own classifier. For image $n$ with
# identity $y_n$: minus the logarithm of the probability that the classifier gives to $y_n$.

# %%
logits = [f @ w.T + b for f, w, b in zip(features, model.classifier.weight, model.classifier.bias)]
softmax_loss = 0.0
for z in logits:
    probability = z.exp() / z.exp().sum(1, keepdim=True)  # [B, identities]
    softmax_loss = softmax_loss - probability[range(len(labels)), labels].log().mean()
compare("Eq. 1", softmax_loss, losses.part_cross_entropy(out.logits, labels))
print(
    f"twelve guesses cost 12 log({ds.num_train_ids}) = {12 * np.log(ds.num_train_ids):.2f}; here "
    f"{softmax_loss:.2f}"
)

# %% [markdown]
# ## Eq. 2: the triplet loss
#
# For each anchor: the farthest image of the same identity should be nearer than the nearest of
# another one, by a margin of 1.2, in Euclidean distance. An anchor at a time, for each of the
# twelve features:


# %%
def triplet_sum(f, labels, margin=1.2):
    """Eq. 2 as printed: a *sum* over all P x K anchors. Also how many anchors violate the
    margin."""
    total, violating = 0.0, 0
    for a in range(len(f)):
        d = (f - f[a]).pow(2).sum(1).sqrt()  # Euclidean distances to the anchor
        hardest_positive, hardest_negative = (
            d[labels == labels[a]].max(),
            d[labels != labels[a]].min(),
        )
        loss = (hardest_positive - hardest_negative + margin).clamp_min(0)
        total, violating = total + loss, violating + int(loss > 0)
    return total, violating


sums, violating = zip(*(triplet_sum(f.detach(), labels) for f in features))
kit = losses.triplet_term(out, labels, CGPN_LOSS)
compare("Eq. 2 divided by P x K", sum(sums) / len(labels), kit)
print(
    f"the printed sum is {sum(sums) / kit.item():.1f} times the kit's value: P x K = {len(labels)} "
    "anchors"
)
print(f"violating anchors: {sum(violating) / 12 / len(labels):.0%}")

# %% [markdown]
# The kit takes the mean over anchors (as MGN's usual code does), so that the term does not grow
# with the batch.
#
# Which features the triplet loss sees: the paper says "the local part is trained with the
# combination of softmax loss and triplet loss while the global part is trained with MSE loss,
# softmax loss and triplet loss". So: all twelve, after the reduction, which are what is compared at
# test time. MGN uses it on its three global features only.
#
# ## Eq. 3: the teachers
#
# $$L_{mse} = \sum_{i=1}^{B} \sum_{p=1}^{M} \| fg_p^i - fgl_p^i \|_2^2$$
#
# with B = 3 branches and M = 2 parts. One loop for each sign in the formula:

# %%
squared, N, channels = 0.0, len(images), T.shape[1]
for i in range(3):  # branches
    for p in range(2):  # parts
        conv, rows = model.global_convs[i], slice(0, half) if p == 0 else slice(half, None)
        fg_p = gmp(mix_channels(maps[i], conv.weight[p], conv.bias[p]))
        fgl_p = gmp(maps[i][:, :, rows])
        for n in range(N):  # images
            squared = squared + ((fg_p[n] - fgl_p[n]) ** 2).sum()  # || . ||^2 over c channels
kit = losses.supervision_mse(out.supervision)
compare("Eq. 3 divided by N and c", squared / N / channels, kit)
print(f"the formula's sum over channels is {channels} times the kit's mean (c of ResNet-50: 2048)")

# %% [markdown]
# "Mean square error" is the name, a *sum* over channels is the formula. The kit takes the mean, as
# the name and PyTorch's `MSELoss` say. Mind the choice: it changes the weight of this term by the
# factor printed above, so with ResNet-50 the kit's Eq. 3 pulls 2048 times less than the printed
# one. Other choices that CGPN's paper leaves to whoever builds it (what an epoch is, the distance
# at test time, which pooling "a global pooling" is, whether the teachers may move) stand in one
# table, `choices_table("CGPN")` of `reidkit/training/choices.py`: see notebook 08.
#
# ## Eq. 4: the plain sum

# %%
total, terms = losses.total_loss(out, labels, CGPN_LOSS)
compare("Eq. 4", softmax_loss + sum(sums) / N + squared / N / channels, total)
pd.Series({n: t.item() for n, t in terms.items()} | {"total": total.item()}).round(3).to_frame(
    "value"
).T

# %% [markdown]
# Weight 1 for each term, as the paper says. The quick preset uses other weights; notebook 08 shows
# why.
#
# ## Who moves? `detach_targets`
#
# Eq. 3 has two ends: the pupil $fg_p$ and the teacher $fgl_p$. Both are functions of the network,
# so its gradient pulls the teacher towards the pupil as well. The paper does not say whether that
# is meant. `detach_targets=True` stops the gradient at the teacher, which makes it a fixed target;
# the kit's default is to leave the formula as it is.
#
# **Predict.** Which layers' gradients change when the teacher is detached: the 1x1 convs, the
# tails, or both?


# %%
def supervision_gradients(detach):
    """Norm of the gradient of Eq. 3 on each group of layers."""
    network = create_model(
        "cgpn", ds.num_train_ids, backbone=recipe.backbone, **recipe.model, detach_targets=detach
    )
    network.load_state_dict(model.state_dict())
    pairs = network.train()(images).supervision
    loss = losses.supervision_mse(pairs)
    layers = {
        "1x1 convs of the global parts": network.global_convs,
        "tails": network.tails,
        "trunk": network.shared,
    }
    norms = {}
    for name, module in layers.items():
        gradients = torch.autograd.grad(
            loss, list(module.parameters()), retain_graph=True, allow_unused=True
        )
        norms[name] = torch.stack([g.norm() for g in gradients if g is not None]).norm().item()
    return {"value of Eq. 3": loss.item(), **norms}


# %%
both, fixed = supervision_gradients(False), supervision_gradients(True)
compare("the same value", both["value of Eq. 3"], fixed["value of Eq. 3"])
pairs = [(a.detach().requires_grad_(), b.detach().requires_grad_()) for a, b in out.supervision]
losses.supervision_mse(pairs, detach_targets=True).backward()
print("gradient that reaches a detached teacher:", pairs[0][1].grad)
table = pd.DataFrame({"both ends move (Eq. 3)": both, "teacher detached": fixed})
table["the same"] = np.where(np.isclose(table.iloc[:, 0], table.iloc[:, 1], rtol=1e-3), "yes", "no")
table.round(4)

# %% [markdown]
# The convs belong to the pupil alone: nothing changes for them. Tails and trunk make pupil and
# teacher both.
#
# Does it matter? Take Eq. 3 *alone* and follow it for some steps. If the teacher can move, the
# cheapest way to agree may be to have nothing to say: a teacher that is the same for every image is
# easy to copy. We watch the teachers' *spread*: their standard deviation over images.


# %%
def follow_supervision(detach, steps=25):
    """[(Eq. 3, spread of the teachers)] at each step of SGD on Eq. 3 alone."""
    network = create_model(
        "cgpn", ds.num_train_ids, backbone=recipe.backbone, **recipe.model, detach_targets=detach
    )
    network.load_state_dict(model.state_dict())
    optimizer, track = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9), []
    for _ in range(steps):
        pairs = network.train()(images[:16]).supervision
        loss = losses.supervision_mse(pairs)
        track.append((loss.item(), torch.stack([t.std(0).mean() for _, t in pairs]).mean().item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.array(track)


# %%
tracks = {"both ends move": follow_supervision(False), "teacher detached": follow_supervision(True)}
panels = {
    title: {name: (range(len(track)), track[:, i]) for name, track in tracks.items()}
    for i, title in enumerate(("Eq. 3", "spread of the teachers over images"))
}
figures.curves(panels, "step on Eq. 3 alone")

# %%
for name, track in tracks.items():
    loss, spread = track[-1] / track[0]
    print(
        f"{name:17s} Eq. 3 falls to {loss:.0%} of its start, the spread of the teachers to "
        f"{spread:.0%}"
    )

# %% [markdown]
# With the teacher detached the maps still change, because the pupil is made from the same maps.
#
# A teacher that loses its spread tells the images apart less well. In CGPN the other two losses
# work against that: the teachers are made from the same map as all other features, and those must
# tell people apart. That is why Eq. 3 needs their company, and why its weight beside them matters.
#
# ## What it costs
#
# **Predict.** MGN has three branches too, one map that is half as high and wide, and no 1x1 convs
# before pooling. How many parameters does CGPN have, if MGN has 68.8 M? First by hand, for
# ResNet-50 and c = 2048:

# %%
count = lambda module: sum(p.numel() for p in module.parameters())
d = 256
trunk, tail = count(paper_model.shared), count(paper_model.tails[0])
global_convs = 6 * (c * c + c)  # 3 branches x 2 convs, with bias
# matrices, and two numbers a channel for batch norm
reductions = 3 * (2 * c) * d + 9 * c * d + 12 * 2 * d
print(
    f"trunk {trunk / 1e6:.2f} + 3 x {tail / 1e6:.2f} (tails) + {global_convs / 1e6:.2f} (1x1 "
    f"convs) + {reductions / 1e6:.2f} (reductions) million"
)
compare(
    "parameters of CGPN",
    trunk + 3 * tail + global_convs + reductions,
    paper_model.count_parameters(),
)

# %%
from torch.utils.flop_counter import FlopCounterMode

from reidkit.reporting import report


# %%
def cost_by_stage(name):
    """Parameters (without classifiers) and FLOPs of one 384x128 image, by stage. Nothing is
    computed: meta device."""
    with torch.device("meta"), torch.no_grad():
        network = create_model(name, 751).eval()
        x, flops = torch.empty(1, 3, 384, 128), {}
        tails = lambda x: tuple(tail(x) for tail in network.tails)
        for stage, run in (("trunk", network.shared), ("tails", tails), ("heads", network.heads)):
            with FlopCounterMode(display=False) as counter:
                x = run(x)
            flops[stage] = counter.get_total_flops() / 1e9
    total, trunk, branches = network.count_parameters(), count(network.shared), count(network.tails)
    millions = {
        "trunk": trunk,
        "tails": branches,
        "heads": total - trunk - branches,
        "total": total,
    }
    flops["total"] = sum(flops.values())
    return {
        **{("M parameters", k): v / 1e6 for k, v in millions.items()},
        **{("GFLOPs", k): v for k, v in flops.items()},
    }


# %%
costs = pd.DataFrame({name: cost_by_stage(name) for name in ("cgpn", "cgpn-1", "cgpn-3", "mgn")}).T
printed = report.paper_table("mpn-table9").set_index(["variant", "metric"])["value"]
costs.insert(
    4, ("M parameters", "paper"), pd.Series({"mgn": printed["mgn", "testing parameters (M)"]})
)
costs.map(lambda v: "-" if np.isnan(v) else f"{v:.1f}")

# %% [markdown]
# All numbers are counted here, on this network, except the column "paper": MGN's 68.8 M as printed
# in MPN's Table 9. CGPN's paper prints neither parameters nor FLOPs. A multiply-add counts as two
# FLOPs; classifiers are left out of the parameters, as in MPN's table.

# %%
a, b = costs.loc["cgpn"], costs.loc["mgn"]
print(
    f"CGPN has {a['M parameters', 'total'] / b['M parameters', 'total']:.2f} times MGN's "
    f"parameters and {a['GFLOPs', 'total'] / b['GFLOPs', 'total']:.2f} times its FLOPs"
)
for stage in ("trunk", "tails", "heads"):
    share, more = a["GFLOPs", stage] / a["GFLOPs", "total"], a["GFLOPs", stage] - b["GFLOPs", stage]
    print(f"  {stage}: {share:.0%} of CGPN's FLOPs, {more:+.1f} GFLOPs beside MGN")
convs_share = global_convs / 1e6 / a["M parameters", "total"]
print(f"  the 1x1 convs of the global parts hold {convs_share:.0%} of its parameters")

# %% [markdown]
# The trunk is shared and runs once; the tails are where the work is. Stages in *seconds*, with
# channels-last, bfloat16 and compilation on a GPU: `reidkit bench cgpn`.
#
# ## Did everything agree?

# %%
print(f"{sum(AGREED)} of {len(AGREED)} comparisons of a derived piece with the kit's agree")

# %% [markdown]
# ## Play with it
#
# The CGPN explorer: choose a branch and a stripe group and see its rows; switch branches off and
# see what becomes of the test feature and of the ranking. **Predict** first: which branch could be
# left out at the lowest price?

# %%
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.training import obtain_run

places = {"runs": RUNS, "shipped": SHIPPED, "preset": PRESET, "seed": SEED}
CGPNExplorer(obtain_run("cgpn", ds, **places), ds)

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/07_solutions](solutions/07_solutions.ipynb).
#
# 1. How many coarse groups has a branch that cuts the map in six stripes?
# 2. How long is the test feature of CGPN-2 (Fig. 4), with 256 numbers a feature?
# 3. Write `teachers(maps)`: a tensor of maps [B, c, h, w] with even h -> [B, 2, c], the two pooled
#    halves.

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None
teachers = None  # a function

print("1:", check_exercise("07.1", answer_1))
print("2:", check_exercise("07.2", answer_2))
print("3:", check_exercise("07.3", teachers))

# %% [markdown]
# ## Questionnaire
#
# **1. Why is half of the map the smallest group?**
# <details><summary>answer</summary>A coarse group should hold enough of the body even when part of
# it is hidden or cut off. The paper sets the limit at half; CGPN-2 is the test of it.</details>
#
# **2. The three tails start with equal weights. What would happen if nothing told them apart?**
# <details><summary>answer</summary>They would receive equal gradients and stay equal: three times
# the cost of one branch. Different stripe groups and randomly initialised heads break the tie at
# the first step.</details>
#
# **3. How can fg_1 learn "upper body" without knowing where up is?**
# <details><summary>answer</summary>By choosing channels that answer to things found in the upper
# half of the training images. At test time it finds these things wherever they are.</details>
#
# **4. The text says "three 1/2 and two 2/3", the sizes say "three 3h/4 and two h/2". What did
# the kit build, and why?**
# <details><summary>answer</summary>Three of h/2 and two of 3h/4: the only groups of adjacent
# stripes out of four that cover at least half and not all.</details>
#
# **5. What is left of the supervision at test time?**
# <details><summary>answer</summary>The 1x1 convs that were taught. Teachers and Eq. 3 are
# gone.</details>
#
# ## Summary
#
# CGPN is one trunk and three tails. Each branch has a global part, two 1x1 convs that learn upper
# and lower body from the pooled halves of the same map, and a local part, max-pooled stripes of at
# least half the height. Twelve features of 256 numbers are trained with softmax and triplet loss
# and stand side by side as the test feature of 3072. Next: [08 Train CGPN](08_train_cgpn.ipynb)
# beside MGN.
