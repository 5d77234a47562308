"""The PxK sampler: batches of P identities with K images each, as batch-hard triplet mining needs.

What is an epoch?
- The released code of MPN calls floor(N / (P K)) batches an epoch and draws the P identities of each batch
  independently (Market-1501, 6 x 8: 269 batches). An identity may be missing from an epoch, or come often.
  That is `mode="independent"`. A table enlarged five times by translation gives an epoch five times longer.
- CGPN does not say. The code of MGN, its nearest relative, goes through a shuffled list of *identities* once:
  ceil(#identities / P) batches (Market-1501, 8 x 8: 94). Every identity is seen, most images are not.
  That is `mode="cover"`. Its length does not depend on the number of images.
"70 epochs" and "240 epochs" are therefore not comparable until they are counted in iterations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from reidkit.errors import TrainingError, unknown_name

Sampling = Literal["cover", "independent"]
MODES: tuple[Sampling, ...] = get_args(Sampling)


def ids_per_batch(batch_size: int, num_instances: int) -> int:
    """P of a batch size, or TrainingError where batch_size is no multiple of K = num_instances."""
    if num_instances < 1:
        raise TrainingError(f"{num_instances} images an identity (K): it must be at least 1")
    if batch_size < 1 or batch_size % num_instances:
        lower = max(batch_size, 0) // num_instances * num_instances
        raise TrainingError(
            f"batch_size {batch_size} does not fit P x K with {num_instances} images an identity (K); "
            f"choose a multiple of K, such as {lower or num_instances} or {lower + num_instances}"
        )
    return batch_size // num_instances


class PKSampler:
    """Batch sampler: each batch is a list of P*K row indices, grouped by identity (K neighbours share a pid).

    pids: [N] identity of each row (any integers).
    num_ids, num_instances: P and K, of this process.
    mode: "cover": identities in shuffled order, each once an epoch; where the last step is not full, it is
        filled with further identities, which are then seen twice. "independent": see the module's docstring.
    batches_per_epoch: another length. "cover" then starts a second, newly shuffled round (or stops early).
    rank, world_size: of this process. All processes plan the same steps of world_size * P different
        identities and of their images from the same seed and take P identities each: at every step their batches
        are disjoint, and one after the other they are the batch of a single process with world_size * P. Every
        process makes the same number of steps ("independent": floor(N / (P K world_size)), at least 1).

    Images of an identity are drawn without replacement; an identity with fewer than K images is drawn with
    replacement, so one with a single image fills its K places with copies of it, which the triplet loss can
    use as a negative only. `num_small_ids` and `num_single_ids` count them.

    Epochs: epoch e is the same for the same seed whatever came before. After its last batch the sampler
    moves on to epoch e + 1 by itself; `set_epoch` goes to any. A new iteration starts at the first batch,
    except the one after `load_state_dict`, which goes on where the saved one stood.

    Raises TrainingError when P x K cannot be filled, UnknownNameError for an unknown mode.
    """

    def __init__(
        self,
        pids: ArrayLike,
        num_ids: int,
        num_instances: int,
        *,
        seed: int = 0,
        mode: Sampling = "cover",
        batches_per_epoch: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if mode not in MODES:
            raise unknown_name("sampler mode", mode, MODES)
        labels = np.asarray(pids)
        order = np.argsort(labels, kind="stable")
        starts = np.unique(labels[order], return_index=True)[1]
        self._rows = np.split(order, starts[1:]) if len(labels) else []  # row numbers of each identity
        self.num_ids, self.num_instances = num_ids, num_instances
        self.seed, self.mode = seed, mode
        self.rank, self.world_size = rank, world_size
        self._check(batches_per_epoch)
        self.batches_per_epoch = batches_per_epoch or self._natural_length(len(labels))
        self.epoch = 0
        self._start = 0  # where the next iteration begins
        self._done = 0  # batches handed out in this epoch

    def _check(self, batches_per_epoch: int | None) -> None:
        """Everything that makes a plan impossible, before the first epoch."""
        if self.num_ids < 1 or self.num_instances < 1:
            raise TrainingError(f"P x K = {self.num_ids} x {self.num_instances}: both must be at least 1")
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(f"rank {self.rank} is not in 0 .. world_size - 1 = {self.world_size - 1}")
        if batches_per_epoch is not None and batches_per_epoch < 1:
            raise TrainingError(f"batches_per_epoch is {batches_per_epoch}; it must be at least 1")
        needed = self.num_ids * self.world_size
        if needed > len(self._rows):
            across = f" in {self.world_size} processes" if self.world_size > 1 else ""
            raise TrainingError(
                f"a step of P = {self.num_ids} identities{across} needs {needed} different identities, the "
                f"training set has {len(self._rows)}; choose P <= {len(self._rows) // self.world_size}"
            )

    def _natural_length(self, num_images: int) -> int:
        step_ids = self.num_ids * self.world_size
        if self.mode == "cover":
            return -(-len(self._rows) // step_ids)
        return max(1, num_images // (step_ids * self.num_instances))

    @property
    def num_small_ids(self) -> int:
        """Identities with fewer than K images (drawn with replacement)."""
        return sum(len(rows) < self.num_instances for rows in self._rows)

    @property
    def num_single_ids(self) -> int:
        """Identities with one image: no positive pair of two different images."""
        return sum(len(rows) == 1 for rows in self._rows)

    def __len__(self) -> int:
        return self.batches_per_epoch

    def epoch_batches(self, epoch: int) -> np.ndarray:
        """[batches, P*K] row indices of this process in one epoch; the same whenever it is asked."""
        rng = np.random.default_rng([self.seed, epoch])
        steps = self._cover_steps(rng) if self.mode == "cover" else self._independent_steps(rng)
        draw = np.random.default_rng([self.seed, epoch, 1])
        images = [self._draw_images(identity, draw) for identity in steps.reshape(-1)]
        batch = self.num_ids * self.num_instances
        shared = np.stack(images).reshape(len(steps), -1)  # [batches, world_size*P*K]
        return shared[:, self.rank * batch : (self.rank + 1) * batch]  # [batches, P*K]

    def _cover_steps(self, rng: np.random.Generator) -> np.ndarray:
        """[batches, world_size*P] identities: rounds of all, the last step of a round filled up."""
        step_ids, n = self.num_ids * self.world_size, len(self._rows)
        per_round = -(-n // step_ids)
        rounds = []
        for _ in range(-(-self.batches_per_epoch // per_round)):
            order = rng.permutation(n)
            lacking = per_round * step_ids - n
            last = order[(per_round - 1) * step_ids :]
            others = np.setdiff1d(order, last)  # a step holds different identities
            rounds.append(np.concatenate([order, rng.permutation(others)[:lacking]]))
        return np.concatenate(rounds).reshape(-1, step_ids)[: self.batches_per_epoch]

    def _independent_steps(self, rng: np.random.Generator) -> np.ndarray:
        """[batches, world_size*P] identities, each step drawn on its own, without replacement within it."""
        step_ids, n = self.num_ids * self.world_size, len(self._rows)
        return np.stack([rng.choice(n, step_ids, replace=False) for _ in range(self.batches_per_epoch)])

    def _draw_images(self, identity: int, rng: np.random.Generator) -> np.ndarray:
        rows = self._rows[identity]
        return rng.choice(rows, self.num_instances, replace=len(rows) < self.num_instances)  # [K]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.remaining():
            self.advance()
            yield batch

    def remaining(self) -> list[list[int]]:
        """The batches of this epoch from where it stands; `advance` once for each that is used.

        For loaders that fetch ahead: what was fetched is not yet trained on.
        """
        self._done, self._start = self._start, 0
        return self.epoch_batches(self.epoch)[self._done :].tolist()

    @property
    def done(self) -> int:
        """Batches of this epoch that were handed out."""
        return self._done

    def advance(self) -> None:
        """Count one batch; after the last of an epoch the next epoch begins."""
        self._done += 1
        if self._done >= len(self):
            self.epoch, self._done = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; a place restored by `load_state_dict` in that same epoch is kept."""
        if epoch != self.epoch:
            self.epoch, self._start, self._done = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of batches used in it, with the settings that the plan depends on."""
        return {"epoch": self.epoch, "done": self._done, "plan": self._plan()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly after the last batch counted. TrainingError if the plan was another one."""
        if dict(state["plan"]) != self._plan():
            now = self._plan()
            changed = {k: (v, now.get(k)) for k, v in state["plan"].items() if v != now.get(k)}
            raise TrainingError(
                f"the saved sampler had other settings (saved, now): {changed}; resume with the saved ones"
            )
        self.epoch = int(state["epoch"])
        self._start = self._done = int(state["done"])

    def _plan(self) -> dict[str, Any]:
        names = ("num_ids", "num_instances", "seed", "mode", "batches_per_epoch", "rank", "world_size")
        images = sum(len(rows) for rows in self._rows)
        return {n: getattr(self, n) for n in names} | {"identities": len(self._rows), "images": images}
