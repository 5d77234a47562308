"""The PxK sampler: what an epoch is, corner cases, several processes, resuming."""

from collections import Counter

import numpy as np
import pytest
from needs import need

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.data import PKSampler
from reidkit.data.sampler import ids_per_batch
from reidkit.errors import TrainingError, UnknownNameError

PIDS = np.repeat([7, 3, 9, 5, 1], 4)  # 5 identities, 4 images each, not in order


def ids(batch, pids=PIDS, k=2):
    """Identities of a batch, one per group of k neighbours; fails if a group is mixed."""
    groups = np.asarray(pids)[np.asarray(batch)].reshape(-1, k)
    assert (groups == groups[:, :1]).all()
    return groups[:, 0].tolist()


def test_cover_sees_every_identity_once_and_fills_the_last_batch():
    sampler = PKSampler(PIDS, 2, 2, seed=0)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3  # ceil(5 / 2)
    seen = Counter(i for b in batches for i in ids(b))
    assert set(seen) == {1, 3, 5, 7, 9} and sorted(seen.values()) == [1, 1, 1, 1, 2]
    assert all(len(set(ids(b))) == 2 for b in batches)


def test_any_identity_outside_of_the_last_step_may_fill_it():
    """Also those of the step just before it."""
    sampler, fillers = PKSampler(PIDS, 2, 2), set()
    for epoch in range(40):
        first, second, last = (set(ids(b)) for b in sampler.epoch_batches(epoch))
        (filler,) = last & (first | second)
        fillers.add("first" if filler in first else "second")
    assert fillers == {"first", "second"}


def test_independent_is_as_long_as_the_released_code():
    market = np.random.default_rng(0).integers(0, 751, 12936)
    assert len(PKSampler(market, 6, 8, mode="independent")) == 269
    assert len(PKSampler(np.tile(market, 5), 6, 8, mode="independent")) == 1347  # five copies
    assert len(PKSampler(market, 8, 8)) == 94  # CGPN as MGN's code: ceil(751 / 8)
    assert len(PKSampler(PIDS, 5, 8, mode="independent")) == 1


def test_enough_images_are_drawn_without_replacement_few_with():
    pids = [0] * 5 + [1] * 2 + [2]
    sampler = PKSampler(pids, 3, 4, seed=1)
    (batch,) = list(sampler)
    groups = {pids[g[0]]: g for g in np.reshape(batch, (3, 4)).tolist()}
    assert len(set(groups[0])) == 4
    assert set(groups[1]) <= {5, 6} and groups[2] == [7] * 4
    assert (sampler.num_small_ids, sampler.num_single_ids) == (2, 1)
    exactly_four = PKSampler([0] * 4 + [1, 1] + [2, 2] + [3], 1, 4)  # drawn without replacement; two with two images
    assert (exactly_four.num_small_ids, exactly_four.num_single_ids) == (3, 1)


def test_epochs_differ_and_return():
    sampler = PKSampler(PIDS, 2, 2, seed=3)
    first, second = list(sampler), list(sampler)
    assert first != second and sampler.epoch == 2
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(PKSampler(PIDS, 2, 2, seed=4)) != first


def test_an_abandoned_iteration_starts_over():
    sampler = PKSampler(PIDS, 2, 2)
    whole = sampler.epoch_batches(0).tolist()
    assert next(iter(sampler)) == whole[0] and list(sampler) == whole


@pytest.mark.parametrize("mode", ["cover", "independent"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5])
def test_resume_in_mid_epoch(mode, cut):
    """Stop after `cut` batches of 3 an epoch, go on in another sampler: the same sequence."""
    whole = PKSampler(PIDS, 2, 2, seed=5, mode=mode, batches_per_epoch=3)
    expected = [b for _ in range(3) for b in whole]
    before, got = PKSampler(PIDS, 2, 2, seed=5, mode=mode, batches_per_epoch=3), []
    while len(got) < cut:
        for batch in before:
            got.append(batch)
            if len(got) == cut:
                break
    after = PKSampler(PIDS, 2, 2, seed=5, mode=mode, batches_per_epoch=3)
    after.load_state_dict(before.state_dict())
    for epoch in range(after.epoch, 3):
        after.set_epoch(epoch)
        got += list(after)
    assert got == expected


def test_a_state_of_other_settings_is_refused():
    state = PKSampler(PIDS, 2, 2, seed=0).state_dict()
    with pytest.raises(TrainingError, match=r"'seed': \(0, 1\)"):
        PKSampler(PIDS, 2, 2, seed=1).load_state_dict(state)


def test_longer_and_shorter_epochs():
    sampler = PKSampler(PIDS, 2, 2, batches_per_epoch=7)
    batches = list(sampler)
    assert len(batches) == 7
    for rounds in (batches[:3], batches[3:6]):
        assert {i for b in rounds for i in ids(b)} == {1, 3, 5, 7, 9}
    assert len(list(PKSampler(PIDS, 2, 2, batches_per_epoch=1))) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_ids": 6}, "P = 6 identities needs 6 different identities, the training set has 5; choose P <= 5"),
        ({"num_ids": 3, "world_size": 2}, "P = 3 identities in 2 processes needs 6 different .* has 5; choose P <= 2"),
        ({"num_ids": 0}, "at least 1"),
        ({"num_instances": 0}, "at least 1"),
        ({"batches_per_epoch": 0}, "batches_per_epoch is 0"),
        ({"rank": 1}, "rank 1"),
    ],
)
def test_impossible_settings(arguments, message):
    with pytest.raises(TrainingError, match=message):
        PKSampler(PIDS, **{"num_ids": 2, "num_instances": 2, **arguments})


def test_unknown_mode_and_empty_set():
    with pytest.raises(UnknownNameError, match="cover, independent"):
        PKSampler(PIDS, 2, 2, mode="random")
    with pytest.raises(TrainingError, match="has 0"):
        PKSampler([], 2, 2)


def test_one_identity_one_image_one_batch():
    """The smallest of everything is allowed."""
    assert list(PKSampler([4], 1, 1, batches_per_epoch=1)) == [[0]]
    assert len(PKSampler([4, 4, 4], 1, 1, mode="independent")) == 3
    assert list(PKSampler([4], 1, 1, rank=0, world_size=1)) == [[0]]


def test_defaults_are_the_first_epoch_of_seed_0_in_one_process():
    plain = PKSampler(PIDS, 2, 2)
    named = PKSampler(PIDS, 2, 2, seed=0, mode="cover", batches_per_epoch=None, rank=0, world_size=1)
    assert (plain.seed, plain.rank, plain.world_size, plain.epoch, plain.done) == (0, 0, 1, 0, 0)
    assert plain.state_dict() == named.state_dict() and list(plain) == list(named)


def test_what_is_done_is_counted_within_an_epoch():
    sampler, seen = PKSampler(PIDS, 2, 2), []
    for _ in range(4):
        sampler.advance()
        seen.append((sampler.epoch, sampler.done))
    assert seen == [(0, 1), (0, 2), (1, 0), (1, 1)]
    sampler.set_epoch(1)  # where it stands: nothing is lost
    assert sampler.done == 1
    sampler.set_epoch(0)
    assert (sampler.epoch, sampler.done) == (0, 0)


def test_images_are_drawn_apart_from_identities():
    """Another K changes the images and not the order of the identities; seed and epoch change both."""
    few, many = PKSampler(PIDS, 2, 1, seed=2), PKSampler(PIDS, 2, 2, seed=2)
    for epoch in (0, 1):
        assert [ids(b, k=1) for b in few.epoch_batches(epoch)] == [ids(b) for b in many.epoch_batches(epoch)]
    assert few.epoch_batches(0).tolist() != few.epoch_batches(1).tolist()


def test_batch_size_and_k():
    assert ids_per_batch(48, 8) == 6
    with pytest.raises(TrainingError, match=r"50 does not fit .* 48 or 56"):
        ids_per_batch(50, 8)
    assert (ids_per_batch(1, 1), ids_per_batch(3, 1), ids_per_batch(2, 2)) == (1, 3, 1)
    with pytest.raises(TrainingError, match=r"0 does not fit .* 1 images .* 1 or 1"):
        ids_per_batch(0, 1)
    with pytest.raises(TrainingError, match=r"7 does not fit .* 8 images .* 8 or 8"):
        ids_per_batch(7, 8)
    with pytest.raises(TrainingError, match=r"-3 does not fit .* such as 1 or 1$"):
        ids_per_batch(-3, 1)
    for few in (0, -2):
        with pytest.raises(TrainingError, match=rf"^{few} images an identity"):
            ids_per_batch(8, few)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=20),
    p=st.integers(1, 5),
    k=st.integers(1, 5),
    world=st.integers(1, 3),
    mode=st.sampled_from(["cover", "independent"]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_properties(counts, p, k, world, mode, seed, data):
    """Any data set: batch shape, grouping, replacement, coverage, processes disjoint and equally long."""
    pids = data.draw(st.permutations(np.repeat(np.arange(len(counts)) * 3, counts).tolist()))
    if p * world > len(counts):
        with pytest.raises(TrainingError):
            PKSampler(pids, p, k, world_size=world)
        return
    ranks = [PKSampler(pids, p, k, seed=seed, mode=mode, rank=r, world_size=world) for r in range(world)]
    plans = [list(s) for s in ranks]
    assert {len(s) for s in ranks} == {len(b) for b in plans}
    for step in zip(*plans):
        identities = [i for batch in step for i in ids(batch, pids, k)]
        assert len(identities) == len(set(identities)) == p * world
        for batch in step:
            for group in np.reshape(batch, (p, k)):
                if counts[pids[group[0]] // 3] >= k:
                    assert len(set(group)) == k
    if mode == "cover":
        seen = Counter(i for plan in plans for batch in plan for i in ids(batch, pids, k))
        assert set(seen) == set(pids) and max(seen.values()) <= 2
