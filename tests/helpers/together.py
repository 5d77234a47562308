"""Run a function in several processes that talk over gloo, as `accelerate launch` starts them on CPUs."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reidkit.losses import total_loss
from reidkit.models import create_model
from reidkit.models.zoo import variant
from reidkit.training import train
from reidkit.training.processes import whole_batch, whole_batch_norm


def together(work, number, folder, *arguments):
    """Call `work(*arguments)` in `number` processes; the folder is for their meeting point."""
    folder.mkdir(parents=True, exist_ok=True)
    mp.start_processes(_start, (work, number, str(folder / "meeting"), arguments), nprocs=number, start_method="spawn")


def _start(rank, work, number, meeting, arguments):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=number)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def one_step(name, settings, dtype, path):
    """One step on a batch of 4 people with 2 images each, of which this process has its share, in order.

    Saves the loss, its terms, and the gradients and running statistics after it, as `path`/RANK.pt.
    """
    rank, number = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 96, 32, dtype=dtype), torch.tensor([0, 0, 3, 3, 1, 1, 4, 4])
    model = create_model(name, 5, backbone="small", **settings).to(dtype).train()
    for module in model.modules():  # unequal weights, so that means over different rows differ
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    net = DistributedDataParallel(model) if number > 1 else model
    own = slice(rank * 8 // number, (rank + 1) * 8 // number)
    with whole_batch_norm():
        out, together = whole_batch(net(images[own]), labels[own])
    loss, terms = total_loss(out, together, variant(name).loss)
    loss.backward()
    state = {k: v for k, v in model.named_buffers() if v.is_floating_point()}
    found = {"loss": loss.detach(), "terms": terms, "buffers": state, "labels": together}
    torch.save(found | {"gradients": {k: p.grad for k, p in model.named_parameters()}}, f"{path}/{rank}.pt")


def whole_training(name, dataset, recipe, run):
    """`train` on the CPU."""
    train(name, dataset, recipe, run, device="cpu", progress=False)
