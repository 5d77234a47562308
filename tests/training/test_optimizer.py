"""One kernel for all parameters takes the step that the formula says, whatever the layout of a weight in memory."""

import pytest
import torch
from stepping import small_batch, small_recipe, small_step

from reidkit.training.loop import training_step
from reidkit.training.steps import augmentation, set_lr


@pytest.mark.parametrize("name", ["mpn", "cgpn", "ide"])
def test_steps_are_those_of_sgd_with_nesterov_momentum(name):
    recipe = small_recipe(name, clip_norm=None, weight_decay=0.01, warmup_batches=3)
    gradients, optimizer = small_step(name, recipe)
    params = dict(gradients.model.named_parameters())
    head = {id(p): group["factor"] for group in optimizer.param_groups for p in group["params"]}
    slow = {n: p.detach().double().clone() for n, p in params.items()}
    velocity, seen = {n: torch.zeros_like(p) for n, p in slow.items()}, {}
    for n, p in params.items():
        p.register_post_accumulate_grad_hook(lambda p, n=n: seen.update({n: p.grad.double().clone()}))
    for seed in range(3):
        lr = set_lr(optimizer, recipe, seed, 3)
        batch = augmentation(recipe)(small_batch(recipe, seed), torch.Generator().manual_seed(seed))
        training_step(batch, gradients, optimizer, recipe, lr)
        for n, p in params.items():
            step = seen[n] + recipe.weight_decay * slow[n]
            velocity[n] = recipe.momentum * velocity[n] + step
            slow[n] -= lr * head[id(p)] * (step + recipe.momentum * velocity[n])
            torch.testing.assert_close(p.detach().double(), slow[n], atol=1e-5, rtol=1e-4)
            slow[n] = p.detach().double().clone()  # the next gradient is taken here
        assert all(p.grad is None for p in params.values())
    assert any(p.stride() != p.contiguous().stride() for p in params.values())  # channels_last weights were among them
