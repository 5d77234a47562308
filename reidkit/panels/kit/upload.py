"""Pictures that a reader uploads to a panel: any picture, a clear word for what is none, names as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from reidkit.data.people import crop_hint
from reidkit.panels.kit.crop import read_upload
from reidkit.reporting.pictures import printable

if TYPE_CHECKING:
    from reidkit.panels.kit.base import Panel

QUERY = "query"  # what a panel calls its own images, in the list of sources


class Uploads(dict[str, np.ndarray]):
    """{name as it is shown: uint8 [H, W, 3]} of what was uploaded."""

    def take(self, name: str, content: bytes) -> str:
        """Keep an uploaded file; returns its name as it is shown. Raises ReIDKitError for what is no picture."""
        image, shown = read_upload(name, content), printable(name)
        shown = f"{shown} (uploaded)" if shown == QUERY else shown
        self[shown] = image
        return shown

    def hint(self, name: str) -> list[str]:
        """[words] where an upload is no crop of one person by its shape, else []."""
        height, width = self[name].shape[:2]
        words = crop_hint((width, height), name)
        return [f"{words}; crop one person first"] if words else []


def upload_button(panel: Panel, take: Callable[[str, bytes], None]) -> Any:
    """A button to upload a picture; `take` gets its name and bytes, and what it raises appears on the panel."""
    import ipywidgets as w

    button = w.FileUpload(
        accept="image/*", multiple=False, description="upload a crop", tooltip="JPEG, PNG, BMP, WEBP or TIFF"
    )
    button.observe(
        lambda change: [panel.guard(take, f["name"], bytes(f["content"])) for f in change["new"]], names="value"
    )
    return button
