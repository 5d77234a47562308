"""Pictures that a reader uploads to a panel: any picture, a clear word for what is none, names as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from reidkit.data.people import crop_hint
from reidkit.errors import ReIDKitError
from reidkit.panels.kit.crop import read_upload
from reidkit.reporting.pictures import printable

if TYPE_CHECKING:
    from reidkit.panels.kit.base import Panel

QUERY, MATCH = "query", "true match"  # what a panel calls its own images, in the lists of sources
LIMIT = 10_000_000  # bytes: JupyterLab and Voila close a connection on a message of more than 10 MiB


class Uploads(dict[str, np.ndarray]):
    """{name as it is shown: uint8 [H, W, 3]} of what was uploaded."""

    def take(self, name: str, content: bytes) -> str:
        """Keep an uploaded file; returns its name as it is shown. Raises ReIDKitError for what is no picture."""
        image, shown = read_upload(name, content), printable(name)
        shown = f"{shown} (uploaded)" if shown in (QUERY, MATCH) else shown
        self[shown] = image
        return shown

    def hint(self, name: str) -> list[str]:
        """[words] where an upload is no crop of one person by its shape, else []."""
        height, width = self[name].shape[:2]
        words = crop_hint((width, height), name)
        return [f"{words}; crop one person first"] if words else []


ESM = """
function render({ model, el }) {
  const button = document.createElement("button"), input = document.createElement("input");
  const note = document.createElement("span");
  button.textContent = model.get("label");
  button.className = "jupyter-button widget-button";
  note.textContent = model.get("note");
  note.className = "reidkit-note";
  input.type = "file";
  input.accept = "image/*";
  input.hidden = true;
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    if (file.size > model.get("limit")) model.send({ refused: file.name, size: file.size });
    else model.send({ name: file.name }, undefined, [await file.arrayBuffer()]);
    input.value = "";  // the same file may be chosen again
  });
  el.append(button, input, note);
}
export default { render };
"""


def upload_button(panel: Panel, take: Callable[[str, bytes], None]) -> Any:
    """A button to upload a picture; `take` gets its name and bytes, and what it raises appears on the panel.

    A file above `LIMIT` is refused in the browser, with a word on the panel: sent, it would end the connection.
    """
    import anywidget
    import traitlets

    class UploadButton(anywidget.AnyWidget):
        _esm = ESM
        _css = ".reidkit-note {margin-left: 8px; color: #555555; font-size: var(--jp-widgets-font-size, 13px)}"
        label = traitlets.Unicode("upload a crop").tag(sync=True)
        note = traitlets.Unicode(f"JPEG, PNG, BMP, WEBP or TIFF, at most {LIMIT / 1e6:.0f} MB").tag(sync=True)
        limit = traitlets.Int(LIMIT).tag(sync=True)

    def received(_widget, message, buffers):
        if "refused" in message:
            panel.fail(too_large(printable(str(message["refused"])), int(message["size"])))
        else:
            panel.guard(take, str(message["name"]), bytes(buffers[0]))

    button = UploadButton()
    button.on_msg(received)
    return button


def too_large(name: str, size: int) -> ReIDKitError:
    """What a panel says of a file that the server would not take."""
    return ReIDKitError(
        f"{name!r} has {size / 1e6:.1f} MB, and a notebook server takes at most {LIMIT / 1e6:.0f} MB in one message: "
        "save it smaller, or crop one person first"
    )
