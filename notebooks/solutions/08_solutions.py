# %% [markdown]
# # 08 Solutions
#
# Worked solutions of the exercises in [08 Train CGPN, beside MGN](../08_train_cgpn.ipynb). Try them
# there first.

# %%
import sys

sys.path.insert(0, "..")  # the checkers stand beside the lessons

DATASET = {"name": "sidewalk", "size": "tiny"}
ROOT = None  # the kit's data/
PRESET = "quick"
SEED = 0

# %% [markdown]
# **1.** All twelve features are the same for every image: all distances are 0, so each anchor pays
# the margin, once for each feature.

# %%
from exercises import check_exercise

answer_1 = 12 * 1.2
print("1:", check_exercise("08.1", answer_1))

# %% [markdown]
# **2.** `flip_average(network, images)`: embed the images and their mirror images, take the mean.

# %%
import torch

from reidkit.data import load_dataset
from reidkit.models import create_model
from reidkit.training import recipe_for

ds = load_dataset(root=ROOT, **DATASET)
recipe = recipe_for("cgpn", PRESET)
torch.manual_seed(SEED)
network = create_model("cgpn", ds.num_train_ids, backbone=recipe.backbone, **recipe.model).eval()
images = torch.randn(2, 3, *recipe.size)


def flip_average(network, images):
    return (network.embed(images) + network.embed(images.flip(3))) / 2


print("2:", check_exercise("08.2", flip_average, network=network, images=images))

# %% [markdown]
# **3.** The factor that makes the triplet term's gradient as long as that of the MSE term.
# Gradients scale with their term, so it is the ratio of the two norms. (Here from one batch of the
# tiny set and random weights: another number than in the notebook.)

# %%
import pandas as pd

from reidkit import losses
from reidkit.data.loaders import train_loader
from reidkit.data.transforms import normalize
from reidkit.models.zoo import variant

batch = next(iter(train_loader(ds, size=recipe.size, num_ids=4, num_instances=4, seed=SEED)))
out = network.train()(normalize(batch.images))
terms = {
    "triplet, Eq. 2": losses.triplet_term(out, batch.labels, variant("cgpn").loss),
    "MSE, Eq. 3": losses.supervision_mse(out.supervision),
}
weights = [p for module in network.backbone_modules() for p in module.parameters()]
norms = pd.DataFrame(index=list(terms), columns=["start"], dtype=float)
for name, term in terms.items():
    gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
    norms.loc[name, "start"] = (
        torch.stack([g.norm() for g in gradients if g is not None]).norm().item()
    )

share = norms.loc["MSE, Eq. 3", "start"] / norms.loc["triplet, Eq. 2", "start"]
print(norms.round(3), f"\nfactor {share:.3f}")
print("3:", check_exercise("08.3", share, norms=norms))
