# %% [markdown]
# # 03 MPN step by step
#
# **What you will learn.** How MPN is built and trained, line by line: the feature map, the main and
# the auxiliary task of a part, what they share, every loss from Eq. 1 to Eq. 10, where gradients
# flow, and one whole step of training by hand. Each piece is derived in a few lines and then
# compared with the same piece of the kit.
#
# **Prerequisites.** [00 Start here](00_start_here.ipynb), [02 Coarse
# priors](02_coarse_priors.ipynb) (what a coarse prior is), PyTorch, batch normalisation.
#
# **Paper.** MPN, Sec. 3.1 to 3.5 and Sec. 4; Fig. 2, 3, 5b and 6; Table 9.
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
# ## What you will understand in the end
#
# Three test images, and the six part classifiers of a trained MPN: bright is where a part found its
# evidence. The second box is too large, the third cuts the legs off. Nobody told the network where
# the body is: it has no prior and no detector at test time.

# %%
import figures
import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from reidkit import losses
from reidkit.attention import part_attention
from reidkit.data import load_dataset
from reidkit.data.images import read_image
from reidkit.data.loaders import train_loader
from reidkit.data.transforms import normalize
from reidkit.models import create_backbone, create_model
from reidkit.models.zoo import VARIANTS
from reidkit.priors import PriorBatch, build_priors, part_features
from reidkit.reporting.diagram import mpn_diagram
from reidkit.reporting.pictures import heat_overlay
from reidkit.training import RunFolder, load_run, recipe_for, run_name

# %%
ds = load_dataset(root=ROOT, **DATASET)
test = (ds.at_level("strong") if "strong" in ds.levels else ds).query
hero = RunFolder(SHIPPED / "mpn-sidewalk-medium-hero-s0")  # trained on pictures of 192 x 64
boxes = {"good box": "ok", "box too large": "loose", "legs cut off": "legs"}
if "detector" in test and hero.finished:
    free = test[test.occluder == "none"]  # of each kind of box the first image that nothing covers
    files = [free.path[free.detector == kind].iloc[0] for kind in boxes.values()]
    photos = torch.from_numpy(np.stack([read_image(f, hero.recipe().size) for f in files]))
    seen = part_attention(load_run(hero.path), normalize(photos))  # [3, K, H, W]
    pictures = [
        [photo.permute(1, 2, 0), *(heat_overlay(photo, m, (96, 288), "inferno") for m in maps)]
        for photo, maps in zip(photos, seen)
    ]
    titles = ["image", *(f"part {k + 1}" for k in range(seen.shape[1]))]
    picture = figures.sheet(dict(zip(boxes, pictures)), titles)
else:
    picture = "needs Sidewalk and the MPN that ships with the kit"
picture

# %% [markdown]
# Parts 1 and 2 stay with head and shoulders and part 6 with the shoes, in a good box and in one
# that is too large; where the legs are missing, the lower parts crowd on the hand and on the hem of
# the coat.
# (Notebook 10 asks how far such pictures can be trusted.)
#
# The network behind it, the paper's Fig. 3, is drawn here from a model: the boxes are its layers,
# the numbers the shapes that leave them (without the batch), green is what main and auxiliary tasks
# share. This notebook takes it apart, box by box. Another variant's drawing differs where its
# configuration does: try `naive-mtl`.

# %%
recipe = recipe_for("mpn", PRESET)
torch.manual_seed(SEED)
network = create_model("mpn", ds.num_train_ids, backbone=recipe.backbone, **recipe.model)
mpn_diagram(network, VARIANTS["mpn"].loss, recipe.size)

# %% [markdown]
# ## One batch and its priors
#
# A batch holds S identities with A images each (Sec. 3.4). Each image comes with the coarse prior
# of notebook 02: mask $M$, upper and lower boundary. Only training needs it.

# %%
grid = tuple(side // network.stride for side in recipe.size)  # rows and columns of the feature map
table = build_priors(ds, "sidewalk", grid=grid, progress=False)  # real sets: tool="files"


def load_batch(num_ids, num_instances):
    """uint8 images, float images, labels, priors and table rows of the first S x A batch of the
    training set."""
    loader = train_loader(
        ds, size=recipe.size, num_ids=num_ids, num_instances=num_instances, seed=SEED, priors=table
    )
    batch = next(iter(loader))
    rows = ds.train.iloc[batch.index.numpy()]
    return batch.images, normalize(batch.images), batch.labels, batch.prior, rows


pixels, images, labels, prior, about = load_batch(num_ids=8, num_instances=4)
print(
    f"images {tuple(images.shape)}, masks {tuple(prior.mask.shape)}, {int(prior.reliable.sum())} "
    "priors are reliable"
)
figures.grid(pixels.permute(0, 2, 3, 1)[:16], columns=16, height=1.9)

# %% [markdown]
# One habit of this notebook: `compare` says whether two results are bit for bit the same, the same
# up to rounding, and how far apart they are. The last section counts how many comparisons agreed.

# %%
from lesson import AGREED, compare

float64 = lambda x: torch.tensor(x, dtype=torch.float64)
compare("0.1 + 0.2 = 0.3", float64(0.1 + 0.2), float64(0.3))

# %% [markdown]
# ## The feature map F (Sec. 3.3)
#
# MPN removes "the last spatial down-sampling operation of ResNet-50 to increase the size of the
# output feature maps".
#
# **Predict.** A ResNet-50 as published makes a 12 x 4 map of a 384 x 128 image. What comes out
# after the change, and how many parameters does the change cost?
#
# The next cell builds both networks on PyTorch's `meta` device, where tensors have a shape and no
# content: nothing is computed, so it takes no time.

# %%
from torchvision.models import resnet50

with torch.device("meta"):
    image = torch.empty(1, 3, 384, 128)
    # without pooling and classifier
    published = torch.nn.Sequential(*list(resnet50().children())[:-2])
    changed = create_backbone("resnet50")
    small = create_backbone("small")
    rows = [
        ("ResNet-50 as published", image, published),
        ("ResNet-50 in MPN", image, changed),
        ("small, for CPUs", torch.empty(1, 3, 144, 48), small),
    ]
    shapes = [
        (n, "x".join(map(str, x.shape[2:])), "x".join(map(str, net(x).shape[1:])))
        for n, x, net in rows
    ]
parameters = [sum(p.numel() for p in net.parameters()) for _, _, net in rows]
pd.DataFrame(shapes, columns=["backbone", "image", "F (channels x h x w)"]).assign(
    parameters=parameters
)

# %% [markdown]
# A stride has no weights, so the change is free in parameters, and weights trained on ImageNet
# still fit. It costs 3.6 times the work in the last stage. By hand it is two numbers; ResNet-18
# shows that it is the same network.

# %%
from torchvision.models import resnet18

torch.manual_seed(SEED)
by_hand = resnet18()
by_hand.layer4[0].conv1.stride = (1, 1)  # the 3x3 conv that halved the map
by_hand.layer4[0].downsample[0].stride = (1, 1)  # and its shortcut
kit = create_backbone("resnet18")
kit.load_state_dict({k: v for k, v in by_hand.state_dict().items() if not k.startswith("fc.")})

x = start = torch.randn(2, 3, 64, 32)
for layer in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
    x = getattr(by_hand, layer)(x)
compare("ResNet-18 without last stride", x, kit(start))

# %% [markdown]
# ## Channels and body parts (Sec. 3.1, Fig. 2)
#
# MPN rests on one observation: "different channels of a ReID network activate local responses at
# their corresponding body parts". If that holds, a part needs no location at test time: it is
# enough to know its *channels*.
#
# We look for it in a trained network if there is one here (a run of notebook 04, or the one that
# ships with the kit), beside a network with random weights. Both are MPNo: MPN without channel
# attention, which comes after the pooling.

# %%
folder = run_name("mpn-no-ca", ds, PRESET, SEED)
found = [place / folder for place in (RUNS, SHIPPED) if RunFolder(place / folder).finished]
trained = load_run(found[0]) if found else None
untrained = create_model(
    "mpn-no-ca", ds.num_train_ids, backbone=recipe.backbone, **recipe.model
).eval()
subject = trained or untrained
print(
    f"a trained network: {found[0]}"
    if found
    else f"no trained network {folder}: what follows uses random weights"
)

# %% [markdown]
# For each channel: which share of its response falls on each of the K stripes of the *person*
# (stripes between the boundaries of the prior)? If channels had no preference, knowing the channel
# would tell nothing about the part. The usual measure of "how much does one thing tell about
# another" is the mutual information, in bits.

# %%
K = subject.num_parts


@torch.no_grad()
def part_response(network, images, prior):
    """[K, C]: the response of each channel on each stripe of the person, as parts of a whole
    of 1."""
    stripes = part_features(network.feature_maps(images), prior, K, "roi")  # [B, K, C, h/K, w]
    response = stripes[prior.reliable].sum((0, 3, 4))  # [K, C]
    return response / response.sum()


def bits(p):
    """Mutual information of rows and columns of a table of probabilities."""
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    return (p * (p / independent.clamp_min(1e-12)).clamp_min(1e-12).log2()).sum().item()


responses = {"random weights": part_response(untrained, images, prior)}
if trained:
    responses["trained"] = part_response(trained, images, prior)
tells = {name: bits(p) for name, p in responses.items()}
pd.Series(tells, name="what a channel tells about the part (bits)").to_frame().round(4)

# %%
last = responses["trained" if trained else "random weights"]
best = last / last.sum(0).clamp_min(1e-9)  # [K, C] shares
best[:, last.sum(0) < 0.2 * last.sum(0).mean()] = 0  # channels that hardly answer at all
channels = []
for part in range(K):  # the most local channel of each part, each channel once
    order = best[part].argsort(descending=True).tolist()
    channels.append(next(c for c in order if c not in channels))
rows_of = [
    torch.where(prior.reliable & (labels == person))[0].tolist() for person in labels.unique()
]
chosen = [rows[0] for rows in rows_of if rows][:4]  # one image each of four identities
with torch.no_grad():
    maps = subject.feature_maps(images)  # F, [B, C, h, w]


# %%
names = [f"part {k + 1}\nchannel {c}\n{best[k, c]:.0%} there" for k, c in enumerate(channels)]
which = "trained network" if trained else "RANDOM WEIGHTS"
figures.local_channels(
    pixels[chosen],
    maps[chosen][:, channels],
    names,
    f"Most local channels, {which} (bright: strong)",
)

# %%
for name, value in tells.items():
    print(
        f"{name}: the channel tells {value:.3f} bits about the part (all of it would be "
        f"{np.log2(K):.2f})"
    )
if trained:
    times = tells["trained"] / tells["random weights"]
    print(
        f"training made it {times:.1f} times as much:",
        "Fig. 2 appears" if times > 1 else "Fig. 2 does not appear",
    )

# %% [markdown]
# Look at the titles: even the most local channel answers elsewhere too. A *linear combination* of
# channels can be more local than any of them, and that is what the first layer of a part is there
# to learn.
#
# ## One main task, line by line (Sec. 3.3)
#
# A main task (MT) reads the whole map F. For part $k$: 1x1 conv, BN, ReLU; global max pooling
# (GMP); channel attention (CA, optional, Fig. 6); another 1x1 conv, BN, ReLU; a linear classifier.
# We take part $k = 2$ of a freshly initialised MPN on the backbone above, in training mode, so BN
# uses the statistics of this batch.

# %%
if trained:
    network.load_backbone(trained.backbone.state_dict())
network.train()
D, C, k = network.config.part_dim, network.backbone.channels, 2
print(
    f"conv1 of all parts {tuple(network.conv1.conv.weight.shape)} = [K, d, C]; the paper: [6, 512, "
    "2048]"
)
print(f"K = {network.num_parts}, d = {D}, C = {C}, {ds.num_train_ids} identities")

# %% [markdown]
# A 1x1 convolution mixes channels at each place of the map, nothing else: a matrix product over
# channels. BN then subtracts each channel's mean and divides by its standard deviation, over images
# and places.


# %%
def conv_1x1(x, conv, k):
    """[B, C, ...] -> [B, d, ...]: the same matrix at every place."""
    y = torch.einsum("dc,bc...->bd...", conv.weight[k], x)
    return y + conv.bias[k].view(-1, *[1] * (x.ndim - 2))


def batch_norm(x, norm, k):
    """Each channel of part k to mean 0, variance 1 over the batch, then scaled and shifted."""
    own = slice(k * norm.dim, (k + 1) * norm.dim)  # channels of part k
    weight, bias = (p[own].view(-1, *[1] * (x.ndim - 2)) for p in (norm.weight, norm.bias))
    over = [d for d in range(x.ndim) if d != 1]  # all but the channels
    mean, variance = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


y = F.relu(batch_norm(conv_1x1(maps, network.conv1.conv, k), network.conv1.norm, k))
print("after conv1 + BN + ReLU", tuple(y.shape))
compare("conv1 of part 2, of K at once", y, network.conv1(maps)[:, k])

# %% [markdown]
# **Global max pooling** keeps the strongest answer of each channel and forgets where it was.
#
# **Predict.** We move every feature map down by three rows (zeros come in from above). How much
# does the pooled vector change, compared with the vector of one fixed stripe?

# %%
pooled = y.amax((2, 3))  # GMP, [B, d]
compare("GMP", pooled, network.conv1(maps).amax((-2, -1))[:, k])


def moved(maps, rows):
    """Feature maps moved down; what leaves the map is lost."""
    down = torch.zeros_like(maps)
    down[:, :, rows:] = maps[:, :, : maps.shape[2] - rows]
    return down


# %%
height, stripe = y.shape[2], slice(k * y.shape[2] // K, (k + 1) * y.shape[2] // K)
change = []
for rows in range(0, height // 3 + 1):
    other = moved(y, rows)
    whole, cut = (
        F.cosine_similarity(a, b).mean().item()
        for a, b in (
            (pooled, other.amax((2, 3))),
            (y[:, :, stripe].amax((2, 3)), other[:, :, stripe].amax((2, 3))),
        )
    )
    change.append((rows, whole, cut))
pd.DataFrame(change, columns=["rows moved", "GMP of the whole map", "GMP of a fixed stripe"]).round(
    3
).set_index("rows moved").T.rename_axis("similarity to the unmoved vector")

# %% [markdown]
# The fixed stripe of the baseline sees another part of the body after the move; the main task sees
# the same one as long as it stays in the picture. Sec. 3.1 calls such features "translation- and
# scale-invariant".
#
# **Channel attention** (Fig. 6): two small layers give each channel a weight in (0, 1) for *this*
# image. Then the second conv, which gives $f_k$, and the classifier.

# %%
squeeze, excite = network.attention.squeeze, network.attention.excite
a = F.relu(batch_norm(conv_1x1(pooled, squeeze.conv, k), squeeze.norm, k))  # d -> d/4
a = torch.sigmoid(batch_norm(conv_1x1(a, excite.conv, k), excite.norm, k))  # d/4 -> d, in (0, 1)
# f_k, [B, d]
f_k = F.relu(batch_norm(conv_1x1(pooled * a, network.conv2.conv, k), network.conv2.norm, k))
# W_k^mt f_k, [B, identities]
logits_k = f_k @ network.classifier.weight[k].T + network.classifier.bias[k]

out = network.heads(maps, prior, with_aux=True)  # all K parts, both tasks
compare("f_2", f_k, out.part_features[:, k])
compare("logits of part 2", logits_k, out.logits[k])
print(
    f"attention of one image lies between {a[0].min():.2f} and {a[0].max():.2f} (untrained: around "
    "a half)"
)


# %% [markdown]
# The same lines as a function, for any part and for both tasks, and all K main tasks one after the
# other. The kit computes them in a few large products instead (`reidkit/models/parts.py`): the same
# numbers, fewer and larger steps.


# %%
def one_task(x, k, classifier, model=network):
    """Sec. 3.3 for part k. x: F or P_k, [B, C, h, w]. Returns the feature [B, d] and the logits."""
    x = F.relu(batch_norm(conv_1x1(x, model.conv1.conv, k), model.conv1.norm, k)).amax((2, 3))
    squeeze, excite = model.attention.squeeze, model.attention.excite
    a = F.relu(batch_norm(conv_1x1(x, squeeze.conv, k), squeeze.norm, k))
    x = x * torch.sigmoid(batch_norm(conv_1x1(a, excite.conv, k), excite.norm, k))
    x = F.relu(batch_norm(conv_1x1(x, model.conv2.conv, k), model.conv2.norm, k))
    return x, x @ classifier.weight[k].T + classifier.bias[k]


features, logits = zip(*(one_task(maps, k, network.classifier) for k in range(K)))
h = torch.cat(features, dim=1)  # h = [f_1, ..., f_K], Eq. 2
compare("h, Eq. 2", h, out.embedding)
compare("logits of all parts", torch.stack(logits), out.logits)
print(f"h has {h.shape[1]} numbers = {K} parts x {D}; the paper: 6 x 512 = 3072")

# %% [markdown]
# ## What the auxiliary task sees (Fig. 5b)
#
# The input of an MT has "no cues for use in identifying part-relevant channels". The auxiliary task
# (AT) of part $k$ is shown the part: $P_k$, made in three steps. Multiply each channel of F by the
# mask $M$; crop the rows between the boundaries and resize them to the size of F; cut in K equal
# stripes.

# %%
clear = (
    torch.tensor((about["occluder"] == "none").to_numpy())
    if "occluder" in about
    else prior.reliable
)
# the smallest person
i = int(torch.where(prior.reliable & clear, prior.bottom - prior.top, 9.0).argmin())
rows = round(prior.top[i].item() * grid[0]), round(prior.bottom[i].item() * grid[0])
masked = maps[i] * prior.mask[i]  # 1: F * M, each channel
crop = masked[:, rows[0] : rows[1]]  # 2: the rows of the person,
# at the size of F
resized = F.interpolate(crop[None], size=grid, mode="bilinear", align_corners=False)[0]
P = resized.chunk(K, dim=1)  # 3: K stripes, each [C, h/K, w]

one = PriorBatch(*(t[i : i + 1] for t in prior))
compare(
    "P_1 ... P_K of one image",
    torch.stack(P),
    part_features(maps[i : i + 1], one, K, "roi-mask")[0],
)
print(f"rows {rows[0]} to {rows[1]} of {grid[0]} belong to the person; P_k is {tuple(P[0].shape)}")

# %%
means = {
    "F (mean channel)": maps[i].mean(0),
    "F * M": masked.mean(0),
    f"resized: P_1 ... P_{K}": resized.mean(0),
}
figures.part_steps(pixels[i], prior.mask[i], means, [r / grid[0] for r in rows], K)

# %% [markdown]
# From here on an AT is the same function as an MT, with $P_k$ instead of F and its own classifier
# $W_k^{at}$. Its features are $z_k$, together $g$ (Eq. 5).

# %%
stripes = part_features(maps, prior, K, "roi-mask")  # [B, K, C, h/K, w]
z, aux_logits = zip(*(one_task(stripes[:, k], k, network.aux_classifier) for k in range(K)))
g = torch.cat(z, dim=1)  # g = [z_1, ..., z_K], Eq. 5
compare("g, Eq. 5", g, out.aux.embedding)
compare("logits of all auxiliary tasks", torch.stack(aux_logits), out.aux.logits)

# %% [markdown]
# ## Hard sharing: one layer, two inputs (PSA, Sec. 3.3)
#
# "MPN shares the parameters of the two Conv layers and the CA module between each MT-AT pair." In
# the kit a shared layer exists once and is called twice. A hook on `conv1` proves it: it notes who
# was called, with what.

# %%
calls = []
hook = network.conv1.register_forward_hook(
    lambda layer, x, y: calls.append((id(layer), tuple(x[0].shape)))
)
with torch.no_grad():
    network.heads(maps, prior, with_aux=True)
    in_training = list(calls)
    network.heads(maps)
hook.remove()
print("training, first call:  main tasks read F        ", in_training[0][1])
print("training, second call: auxiliary tasks read P_k ", in_training[1][1])
print("the same module:", in_training[0][0] == in_training[1][0])
print("calls at test time:", len(calls) - len(in_training))

# %% [markdown]
# **Predict.** Naive MTL has the same tasks without sharing. How many more parameters does it train,
# with ResNet-50? Count by hand first: a 1x1 conv from $C$ to $d$ channels has $Cd + d$ numbers, its
# BN $2d$.

# %%
C_paper, d_paper, K_paper = 2048, 512, 6
conv1 = C_paper * d_paper + d_paper + 2 * d_paper
conv2 = d_paper * d_paper + d_paper + 2 * d_paper
trunk = parameters[1]
print(f"ResNet-50 {trunk / 1e6:.2f} M + 6 x ({conv1 / 1e6:.2f} M + {conv2 / 1e6:.2f} M)")
with torch.device("meta"):  # shapes only: nothing is allocated
    models = {n: create_model(n, 751) for n in ("mpn-no-ca", "naive-mtl", "pcb", "pyramid", "mgn")}
compare(
    "parameters of MPNo", trunk + K_paper * (conv1 + conv2), models["mpn-no-ca"].count_parameters()
)

# %%
from reidkit.reporting import report

paper = report.paper_table("mpn-table9").set_index(["variant", "metric"])["value"]


def training_parameters(model):
    """All parameters but those of the classifiers."""
    return sum(p.numel() for name, p in model.named_parameters() if "classifier" not in name)


rows = {
    name: {
        "trained (M)": training_parameters(model) / 1e6,
        "kept for testing (M)": model.count_parameters() / 1e6,
        "tested, trunk rounded to 23.6 M": (model.count_parameters() - trunk + 23.6e6) / 1e6,
        "paper, Table 9: testing (M)": paper.get((name, "testing parameters (M)"), float("nan")),
    }
    for name, model in models.items()
}
# three copies of layers: no single trunk
rows["mgn"]["tested, trunk rounded to 23.6 M"] = float("nan")
pd.DataFrame(rows).T.map(lambda v: "-" if np.isnan(v) else f"{v:.2f}")

# %% [markdown]
# Classifiers are left out, as in the paper. Sharing makes the training network as small as the test
# network. The paper's printed figures are a little above an exact count; with the trunk rounded to
# 23.6 M instead of 23.51 M they come out as printed. MGN copies most of the trunk three times and
# agrees as it is.
#
# ## Eq. 1: every task names the person
#
# A cross entropy for each of the K main and K auxiliary tasks, summed over parts, averaged over
# images. (The paper prints -1/N in front of the sum. A cross entropy is positive already, so a
# network that minimised the printed formula would learn to be wrong: the minus is a slip.) A
# hand-sized case: two parts, two images, three identities, and all scores 0 but one.

# %%
tiny_logits = torch.tensor([[[2.0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])  # [K, N, identities]
tiny_labels = torch.tensor([0, 1])
by_hand = 0.0
for part in range(2):
    for image in range(2):
        scores = tiny_logits[part, image]
        probability = scores.exp()[tiny_labels[image]] / scores.exp().sum()
        by_hand += -probability.log() / 2  # mean over N = 2 images, sum over parts
print(f"a task that knows nothing pays log 3 = {np.log(3):.4f}; three of four do: {by_hand:.4f}")
compare("Eq. 1", by_hand, losses.part_cross_entropy(tiny_logits, tiny_labels))

# %% [markdown]
# ## Eq. 3 and 4: the triplet loss on h
#
# For each anchor: the *farthest* image of the same identity should be nearer than the *nearest* of
# another one, by a margin $\alpha = 0.2$. $D$ is the cosine distance (Eq. 4), and the sum is
# divided by the number $N_T$ of triplets that violate the margin. The triplet loss sees $h$ only:
# ATs are thrown away, so $g$ need not rank well.
#
# Cosine distance sees directions, so hand-sized features are angles on a circle.

# %%
angles = np.deg2rad([20, 60, -5, 90, 200, 216])
points = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], 1), dtype=torch.float32)
people = [0, 0, 1, 1, 2, 2]


def distance(a, b):
    return 1 - a @ b / (a.norm() * b.norm())  # Eq. 4


def triplet(x, people, margin=0.2):
    """Eq. 3, an anchor at a time; also returns each anchor's hardest positive and negative."""
    found, pairs = [], []
    for a, person in enumerate(people):
        d = [distance(x[a], other).item() for other in x]
        positive = max((j for j in range(len(x)) if people[j] == person), key=d.__getitem__)
        negative = min((j for j in range(len(x)) if people[j] != person), key=d.__getitem__)
        found.append(max(0.0, d[positive] - d[negative] + margin))
        pairs.append((positive, negative))
    violating = [v for v in found if v > 0]
    return sum(violating) / max(1, len(violating)), found, pairs


# %%
by_hand, found, pairs = triplet(points, people)
print(
    "loss of each anchor:",
    np.round(found, 3),
    f"  violating: {sum(v > 0 for v in found)} of {len(found)}",
)
compare("Eq. 3", by_hand, losses.batch_hard_triplet(points, torch.tensor(people), margin=0.2))

# %%
degrees = np.rad2deg(angles)
titles = {a: f"anchor at {degrees[a]:.0f} degrees: loss {found[a]:.2f}" for a in (0, 2, 4)}
figures.triplets(points, people, pairs, titles)

# %% [markdown]
# ## Eq. 5 to 9: aligning the two feature spaces (FSA)
#
# Sharing weights does not make $h$ and $g$ equal: their inputs differ. The class-wise loss pulls
# the *mean* of an identity's $h$ towards the mean of its $g$ (Eq. 6-8); the sample-wise one of
# earlier work pulls each $h$ to its own $g$ (Eq. 9).
#
# **Predict.** Identity 0 has four images. Three $g$ agree with their $h$; one comes from a failed
# prior and points elsewhere. Which of the two losses complains more?

# %%
h_tiny = torch.tensor(
    [[1, 0.1], [1, 0.3], [1, 0.2], [1, 0.4], [-0.2, 1], [-0.1, 1], [0, 1], [-0.3, 1]]
)
g_tiny = h_tiny.clone()
g_tiny[0] = torch.tensor([-0.5, -0.9])  # the failed prior
who = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])

h_mean = [h_tiny[who == p].sum(0) / 4 for p in (0, 1)]  # Eq. 6
g_mean = [g_tiny[who == p].sum(0) / 4 for p in (0, 1)]  # Eq. 7
class_wise = sum(distance(a, b) for a, b in zip(h_mean, g_mean)) / 2  # Eq. 8, S = 2
sample_wise = sum(distance(a, b) for a, b in zip(h_tiny, g_tiny)) / 8  # Eq. 9, N = 8
compare("Eq. 8, class-wise", class_wise, losses.class_alignment(h_tiny, g_tiny, who))
compare("Eq. 9, sample-wise", sample_wise, losses.sample_alignment(h_tiny, g_tiny))
print(f"class-wise {class_wise:.3f}   sample-wise {sample_wise:.3f}")

# %%
figures.alignments(h_tiny, g_tiny, who)

# %% [markdown]
# A length tells nothing here (the distance is a cosine: it compares directions from the cross), so
# look at angles: the wrong $g$ drags its sample by its full angle, and the mean of four by much
# less.
#
# ## Eq. 10: all together

# %%
lam = 1.0
# Eq. 1
identity = sum(
    F.cross_entropy(a, labels) + F.cross_entropy(b, labels) for a, b in zip(logits, aux_logits)
)
# Eq. 10
total = (
    identity + triplet(h.detach(), labels.tolist())[0] + lam * losses.class_alignment(h, g, labels)
)

from reidkit.models.zoo import variant

loss_config = variant("mpn").loss
kit_total, terms = losses.total_loss(out, labels, loss_config)
compare("Eq. 10", total, kit_total)
pd.Series({n: v.item() for n, v in terms.items()} | {"total": kit_total.item()}).round(3).to_frame(
    "value"
).T

# %% [markdown]
# A check on the first two terms: with the classifiers' weights near zero, every task guesses, so
# each of the K costs log(identities). Is K log(identities) what you see?

# %%
print(
    f"K log(identities) = {K * np.log(ds.num_train_ids):.3f}   identity term = "
    f"{terms['identity']:.3f}"
)

# %% [markdown]
# ## Where gradients flow
#
# The point of the auxiliary tasks is not their output (it is thrown away) but what they do to
# shared weights.
#
# **Predict.** The loss of the ATs alone: which layers of MPN does it move? Which of Naive MTL?

# %%
naive = create_model(
    "naive-mtl", ds.num_train_ids, backbone=recipe.backbone, **recipe.model
).train()
naive.load_backbone(network.backbone.state_dict())


# %%
def norms_by_layer(model):
    """Norm of each loss term's gradient on each layer; "-" where no gradient arrives."""
    out = model(images, prior)
    terms = {
        "identity of MTs": losses.part_cross_entropy(out.logits, labels),
        "identity of ATs": losses.part_cross_entropy(out.aux.logits, labels),
        "triplet on h": losses.batch_hard_triplet(out.embedding, labels),
        "class alignment": losses.class_alignment(out.embedding, out.aux.embedding, labels),
    }
    layers = {n: list(p.parameters()) for n, p in model.named_children()}
    table = {}
    for name, term in terms.items():
        for layer, weights in layers.items():
            grads = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            arrived = [x.norm() ** 2 for x in grads if x is not None]
            table.setdefault(name, {})[layer] = (
                f"{torch.stack(arrived).sum().sqrt():.2g}" if arrived else "-"
            )
    return pd.DataFrame(table)


flow = norms_by_layer(network)
flow

# %%
naive_flow = norms_by_layer(naive)
naive_flow

# %%
for name, table_ in (("MPN", flow), ("Naive MTL", naive_flow)):
    reached = [layer for layer, value in table_["identity of ATs"].items() if value != "-"]
    print(f"{name}: the ATs' loss moves {', '.join(reached)}")

# %% [markdown]
# In MPN it reaches the conv1 that the main tasks will use alone at test time: that is the channel
# selection. In Naive MTL it reaches the backbone only. The alignment loss reaches both sides:
# neither $h$ nor $g$ is detached.
#
# ## One step of training, by hand
#
# Now all of it: forward through both tasks with the functions above, Eq. 10, gradients, and one
# step of SGD with Nesterov momentum and weight decay. Beside it the kit: `model(images, prior)`,
# `total_loss`, `backward`, `torch.optim.SGD`.

# %%
import copy

hand, kit = copy.deepcopy(network).train(), copy.deepcopy(network).train()
lr, momentum, decay = 0.01, 0.9, 5e-4

maps_ = hand.backbone(images)
stripes_ = part_features(maps_, prior, K, "roi-mask")
f, mt = zip(*(one_task(maps_, k, hand.classifier, hand) for k in range(K)))
z, at = zip(*(one_task(stripes_[:, k], k, hand.aux_classifier, hand) for k in range(K)))
h_, g_ = torch.cat(f, 1), torch.cat(z, 1)

# %%
unit = F.normalize(h_, dim=1)
d = 1 - unit @ unit.T  # Eq. 4, all pairs
same = labels[:, None] == labels
# 9 is beyond any cosine distance
hinge = F.relu((d - 9 * ~same).amax(1) - (d + 9 * same).amin(1) + 0.2)
loss = sum(F.cross_entropy(a, labels) + F.cross_entropy(b, labels) for a, b in zip(mt, at))  # Eq. 1
loss = loss + hinge.sum() / (hinge > 0).sum()  # + Eq. 3
# Eq. 6, 7
means = [torch.stack([x[labels == p].mean(0) for p in labels.unique()]) for x in (h_, g_)]
loss = loss + (1 - F.cosine_similarity(*means)).mean()  # + Eq. 8
loss.backward()
with torch.no_grad():
    for p in hand.parameters():
        step = p.grad + decay * p  # weight decay
        p -= lr * (step + momentum * step)  # Nesterov; the velocity is still the first step

# %%
optimizer = torch.optim.SGD(
    kit.parameters(), lr=lr, momentum=momentum, weight_decay=decay, nesterov=True
)
kit_loss, _ = losses.total_loss(kit(images, prior), labels, loss_config)
kit_loss.backward()
optimizer.step()

compare("loss", loss, kit_loss)
for name in (
    "conv1.conv.weight",
    "conv2.conv.weight",
    "aux_classifier.weight",
    "backbone.layer4.0.conv2.weight",
):
    compare(
        f"new {name.removeprefix('backbone.')}", hand.get_parameter(name), kit.get_parameter(name)
    )
before = network.get_parameter("conv1.conv.weight")
print(
    f"for scale, this step moved conv1 by up to {(kit.conv1.conv.weight - before).abs().max():.1e}"
)

# %% [markdown]
# ## A side effect: BN statistics are a mixture
#
# Shared layers share their BN, and BN keeps running means for test time. In training each call
# normalises with its own batch; but both calls *update* the same running mean, first the MTs', then
# the ATs'. At test time there are no ATs, and the MTs are normalised with a mixture.
#
# With momentum $m$ = 0.1, one step is $r \to 0.9\,(0.9\,r + 0.1\,\mu_{MT}) + 0.1\,\mu_{AT}$.
# **Predict**: where does $r$ end up if the batch never changes? Solve $r$ = that, then run it.

# %%
m = network.conv1.norm.momentum
share_at = m / (1 - (1 - m) ** 2)  # the last update weighs more
y_mt, y_at = network.conv1.conv(maps).detach(), network.conv1.conv(stripes).detach()
mu_mt, mu_at = (y.mean((0, 3, 4)).flatten() for y in (y_mt, y_at))  # [K * d]
expected = (1 - share_at) * mu_mt + share_at * mu_at

mixing = copy.deepcopy(network.conv1.norm).train()
with torch.no_grad():
    for _ in range(150):
        mixing(y_mt)
        mixing(y_at, aux=True)
print(f"the auxiliary tasks' share is m / (1 - (1-m)^2) = {share_at:.3f}")
compare("running mean after 150 steps", expected, mixing.running_mean)

# %% [markdown]
# `create_model(..., separate_bn=True)` keeps two sets of running statistics: the main tasks are
# then tested with their own. Does it matter? For a network trained with the mixture we can ask
# without training: keep its weights, and estimate the running statistics again from the main tasks
# alone.

# %%
from reidkit.data.cache import ImageCache
from reidkit.evaluation import evaluate_ranking, extract_features


@torch.no_grad()
def reestimate(model, batches=8):
    """A copy whose head statistics are plain averages over `batches` batches of main tasks."""
    model = copy.deepcopy(model).eval()
    norms = model.conv1.norm, model.conv2.norm
    loader = train_loader(ds, size=recipe.size, num_ids=16, num_instances=4, seed=SEED)
    for i, (batch, _) in enumerate(zip(loader, range(batches))):
        maps = model.feature_maps(normalize(batch.images))
        for norm in norms:
            norm.train().momentum = 1 / (i + 1)
        model.heads(maps)
    return model.eval()


# %%
def sampled_map(model, level, people=50):
    """mAP of the first `people` test identities (a sample, to be quick)."""
    test = ds.at_level(level)
    chosen = sorted(test.query.pid.unique())[:people]
    tables, features = [], []
    for t in (test.query, test.gallery):
        # decoded once, kept on disk
        cache = ImageCache.for_table(t, ds.root, recipe.size, progress=False)
        t = t[t.pid.isin(chosen)].reset_index(drop=True)
        tables.append(t)
        features.append(
            extract_features(model, t, size=recipe.size, cache=cache, root=ds.root, progress=False)
        )
    q, g = tables
    return 100 * evaluate_ranking(*features, q.pid, g.pid, q.camid, g.camid).mAP


# %%
if trained:
    levels = dict.fromkeys([ds.level, *(v for v in ds.levels if v == "strong")])
    networks = {"mixed, as in the paper": trained, "main tasks alone": reestimate(trained)}
    rows = {
        name: {f"mAP, {v}": sampled_map(net, v) for v in levels} for name, net in networks.items()
    }
    statistics = pd.DataFrame(rows).T.round(1)
    change = statistics.diff().iloc[-1]
    print("main tasks alone minus mixed:", ", ".join(f"{n} {v:+.1f}" for n, v in change.items()))
else:
    statistics = "needs a trained network: run notebook 04 first, then this cell again"
statistics

# %% [markdown]
# One network, one seed, a sample of the identities: read the sign, not the decimals. That the two
# kinds of input can share statistics at all says that training made them similar, which is what the
# alignment loss asks for.
#
# ## Why class-wise? (Sec. 3.5)
#
# The paper's argument: single priors fail, so a single $g$ is a bad teacher, but the mean over an
# identity's A images is a better one. Let us break priors on purpose: some images get a wrong
# window of the picture (random place, 30 to 60 % of the height) instead of their own. We ask two
# things:
#
# 1. How far did the *teacher* move: each $g$ from what it was with the right prior, and each
#    identity's mean of $g$?
# 2. Does the gradient that $h$ receives still point where it did with the right priors?
#
# **Predict.** With A = 8 images an identity and half of the priors broken: how much better is the
# mean?

# %%
_, images8, labels8, prior8, _ = load_batch(num_ids=8, num_instances=8)
with torch.no_grad():
    maps8 = subject.feature_maps(images8)
    h8 = subject.heads(maps8).embedding
    g8 = subject.heads(maps8, prior8, with_aux=True).aux.embedding
generator = torch.Generator().manual_seed(SEED)


def broken(prior, share):
    """The priors with a share of them replaced by random windows of the image, everything in them
    body."""
    n = len(prior.top)
    bad = torch.randperm(n, generator=generator) < round(share * n)
    size = 0.3 + 0.3 * torch.rand(n, generator=generator)
    top = (1 - size) * torch.rand(n, generator=generator)
    return PriorBatch(
        prior.mask | bad[:, None, None],
        torch.where(bad, top, prior.top),
        torch.where(bad, top + size, prior.bottom),
        prior.reliable,
    )


# %%
ALIGN = {
    "class-wise": lambda a, b: losses.class_alignment(a, b, labels8),
    "sample-wise": lambda a, b: losses.sample_alignment(a, b),
}


def gradient(align, g):
    """What h receives, as one long vector."""
    h = h8.clone().requires_grad_()
    return torch.autograd.grad(align(h, g), h)[0].flatten()


rows = []
for share in (0, 0.125, 0.25, 0.375, 0.5):
    for _ in range(6):
        with torch.no_grad():
            g_bad = subject.heads(maps8, broken(prior8, share), with_aux=True).aux.embedding
        for kind, align in ALIGN.items():
            agreement = F.cosine_similarity(gradient(align, g_bad), gradient(align, g8), dim=0)
            rows.append((kind, share, align(g_bad, g8).item(), agreement.item()))
robust = pd.DataFrame(
    rows,
    columns=["loss", "broken priors", "how far the teacher moved", "agreement of the gradient"],
)

# %%
figures.against_broken_priors(robust)

# %%
half = robust[robust["broken priors"] == 0.5].groupby("loss").mean()
for kind, row in half.iterrows():
    print(
        f"half of the priors broken, {kind}: the teacher moved by {row.iloc[1]:.3f}, the gradient "
        f"agrees to {row.iloc[2]:.2f}"
    )
difference = half.loc["class-wise"] - half.loc["sample-wise"]
print("class-wise has the steadier teacher: ", bool(difference.iloc[1] < 0))
print("class-wise has the steadier gradient:", bool(difference.iloc[2] > 0))

# %% [markdown]
# This shows the *mechanism*, on one network ("a trained network" or not: see the cell that loaded
# it). Whether it also gives better rankings is a question for trained networks: Table 3, in
# notebook 05.
#
# ## Test time (Sec. 4)
#
# The auxiliary tasks are gone; $h$ is the representation, the cosine (Eq. 11) the similarity. No
# prior is needed.

# %%
network.eval()
with torch.no_grad():
    h_test = network.embed(images)  # no prior
    output = network(images)
    rho = h_test[0] @ h_test[1] / (h_test[0].norm() * h_test[1].norm())  # Eq. 11
print(
    "auxiliary output at test time:",
    output.aux,
    "  needs a prior at test time:",
    network.needs_prior_at_test,
)
compare("Eq. 11 = 1 - Eq. 4", rho, 1 - losses.cosine_distance(h_test[0], h_test[1]))

# %% [markdown]
# Did conv1 learn where its part is? Of the maxima that GMP picks for part $k$, which share lies on
# stripe $k$ of the person? Chance is 1/K. Notebook 10 looks at this in depth, with attention maps.


# %%
@torch.no_grad()
def on_own_stripe(network):
    """[K]: the share of the pooled maxima of part k that lie on the person's stripe k."""
    of_parts = network.part_maps(network.feature_maps(images)).flatten(1, 2)  # [B, K*d, h, w]
    # [B, stripe, K*d]
    peaks = part_features(of_parts, prior, K, "roi").amax((3, 4))[prior.reliable]
    where = peaks.argmax(1).unflatten(1, (K, -1))  # [B, K, d]: the stripe of the maximum
    return (where == torch.arange(K)[:, None]).float().mean((0, 2))


own = {"random weights": on_own_stripe(untrained)} | (
    {"trained MPNo": on_own_stripe(trained)} if trained else {}
)
columns = [f"part {part + 1}" for part in range(K)]
own = pd.DataFrame({n: v.numpy() for n, v in own.items()}, index=columns).T
own.assign(mean=own.mean(axis=1), chance=1 / K).round(3)

# %%
print(f"comparisons that agree: {sum(AGREED)} of {len(AGREED)}")

# %% [markdown]
# ## Play with it
#
# The loss playground: move points, change margin, S x A, mining and lambda, and see which pairs the
# losses pick.

# %%
from reidkit.panels.loss_playground import LossPlayground

LossPlayground()

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/03_solutions](solutions/03_solutions.ipynb).
#
# 1. How many parameters do the K heads of MPN train *in addition* with channel attention, at the
#    paper's sizes (512 -> 128 -> 512, each conv with bias and BN, K = 6)?
# 2. In the circle example, identity 2 is safe with a margin of 0.2. Give a margin for which all six
#    anchors violate.
# 3. Write `batch_wise(h, g)`: the cosine distance between the batch means of two tensors $h$ and
#    $g$ (Sec. 5.3.3), such as `h_tiny` and `g_tiny`.

# %%
from exercises import check_exercise

attention_parameters = None
margin = None
batch_wise = None  # a function of h and g

print("1:", check_exercise("03.1", attention_parameters))
print("2:", check_exercise("03.2", margin, points=points, people=people))
print("3:", check_exercise("03.3", batch_wise))

# %% [markdown]
# ## Questionnaire
#
# **1. Both tasks of a part have the same layers. What is different?**
# <details><summary>answer</summary>Their inputs (F, or the stripe P_k that the prior cuts out of
# it), their classifiers, and that only the main task gets the triplet loss and survives
# training.</details>
#
# **2. Why is the first conv of an AT easier to learn than that of an MT?**
# <details><summary>answer</summary>In P_k only channels that answer at part k are strong, so the
# right channels are easy to find. The MT sees all parts at once and has no cue which channels are
# its own.</details>
#
# **3. The test network needs no prior and no detector. Where did the location go?**
# <details><summary>answer</summary>Into the weights of conv1: it selects channels that answer at
# the part, and global max pooling finds the place by itself.</details>
#
# **4. Sharing conv1 alone does not guarantee that the MT picks its part's channels. Why share
# conv2 too?**
# <details><summary>answer</summary>A shared conv2 must give the right identity for inputs of both
# tasks, which asks that the pooled vectors of MT and AT be alike, and so regularises
# conv1.</details>
#
# **5. Is the running mean of a shared BN the mean of the two tasks' means?**
# <details><summary>answer</summary>Nearly: the task that comes last in a step has the larger share,
# m / (1 - (1-m)^2), a little more than a half for m = 0.1.</details>
#
# **6. When would you expect sample-wise alignment to be as good as class-wise?**
# <details><summary>answer</summary>When every prior is right and g is a good teacher for each
# single image; then the stronger constraint costs nothing.</details>
#
# ## Summary
#
# F has twice the rows of a published ResNet's map; a main task selects channels from it, pools them
# over the whole map and names the person; an auxiliary task does the same on the stripe where the
# part is. They share all layers but the classifiers, are aligned by identity means, and only the
# main tasks are kept. Every formula from Eq. 1 to Eq. 11 was computed twice. Next: [04 Train and
# evaluate MPN](04_train_and_evaluate_mpn.ipynb).
