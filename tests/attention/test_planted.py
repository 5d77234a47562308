"""Maps of a network that looks at known rows, and the figures: MPN Fig. 2, CGPN Fig. 5."""

import pytest
import torch
import torch.nn.functional as F
from attention_networks import GRADIENT, SIZE, make_images, make_model, planted_images, planted_model

from reidkit.attention import channel_responses, global_maps, part_attention, similarity_attention
from reidkit.attention.cam import to_image_size
from reidkit.errors import ReIDKitError


@pytest.mark.parametrize("method", [*GRADIENT, "scorecam"])
def test_planted_parts_are_found(method):
    rows = ((0, 2), (4, 6), (9, 11))
    maps = part_attention(planted_model(), planted_images(rows), method)
    for k, (start, stop) in enumerate(rows):
        inside = maps[0, k, start * 8 : stop * 8].sum() / maps[0, k].sum()
        assert inside > 0.75, (method, k, inside)  # the rest is the soft border of the interpolation


def test_planted_parts_follow_the_person():
    moved = ((3, 5), (6, 8), (1, 3))
    maps = part_attention(planted_model(), planted_images(moved))
    for k, (start, stop) in enumerate(moved):
        assert maps[0, k, start * 8 : stop * 8].sum() / maps[0, k].sum() > 0.75


def test_similarity_attention_finds_what_is_shared():
    """Part 0's feature is (red, green): with B all red, what makes A match is its red patch, not its green one."""
    model = planted_model()
    with torch.no_grad():
        model.conv1.conv.weight.zero_()
        model.conv1.conv.weight[0, 0, 0] = model.conv1.conv.weight[0, 1, 1] = 1
    a, red = planted_images(), torch.zeros(1, 3, *SIZE)
    red[:, 0] = 1
    maps = similarity_attention(model, a, red, parts=[0])
    assert maps.shape == (2, 1, *SIZE)
    assert maps[0, 0, 0:16].sum() / maps[0, 0].sum() > 0.75  # red rows of A
    green = red.roll(1, dims=1)
    maps = similarity_attention(model, a, torch.cat([red, green]), parts=[0])
    assert maps[1, 0, 32:48].sum() / maps[1, 0].sum() > 0.75  # image 1 is compared with green
    whole = similarity_attention(make_model("mpn"), make_images(), make_images(seed=2), "scorecam", parts=[2])
    assert whole.shape == (2, 1, *SIZE) and whole.isfinite().all()


def test_channel_responses():
    model, images = planted_model(), planted_images()
    images[:, 2] *= 5
    maps, channels = channel_responses(model, images, 2)
    assert channels[0] == 2 and maps.shape == (2, 2, *SIZE)  # blue peaks highest
    assert maps[0, 0, 72:88].sum() / maps[0, 0].sum() > 0.75 and maps[0, 0].max() > 0.9999
    maps, channels = channel_responses(model, images, [1, 0])
    assert channels == [1, 0] and maps[0, 0, 32:48].sum() / maps[0, 0].sum() > 0.75
    with pytest.raises(ReIDKitError, match=r"channel 3 of 3"):
        channel_responses(model, images, [3])
    assert channel_responses(make_model("cgpn"), make_images(), branch=2)[0].shape == (2, 5, *SIZE)
    with pytest.raises(ReIDKitError, match="branch 3"):
        channel_responses(make_model("cgpn"), make_images(), branch=3)


def test_global_maps():
    model, images = make_model("cgpn"), make_images()
    maps = global_maps(model, images)
    assert maps.shape == (2, 3, 2, *SIZE) and maps.min() >= 0 and 0.9999 < maps.max() <= 1
    with torch.no_grad():  # by hand: branch 1, the conv that is taught the lower body
        conv = model.global_convs[1]
        f = model.feature_maps(images)[1]
        response = F.conv2d(f, conv.weight[1][:, :, None, None], conv.bias[1]).relu().mean(1)
    torch.testing.assert_close(maps[:, 1, 1], to_image_size(response, SIZE), rtol=1e-3, atol=1e-4)
    with pytest.raises(ReIDKitError, match="global_parts=0"):
        global_maps(make_model("cgpn-3"), images)
    with pytest.raises(ReIDKitError, match="CGPN variant"):
        global_maps(make_model("mgn"), images)
