"""A picture that reports the mouse: for dragging a crop, a point, a border. Works offline (anywidget, inline code)."""

from __future__ import annotations

from reidkit.errors import ReIDKitError

ESM = """
function render({ model, el }) {
  const image = document.createElement("img");
  image.draggable = false;
  image.style.touchAction = "none";
  image.style.cursor = "grab";
  image.style.maxWidth = "100%";
  image.style.height = "auto";
  let url = null;
  const show = () => {
    const value = model.get("value");
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([value], { type: "image/png" }));
    image.src = url;
    image.alt = model.get("alt");
    image.width = model.get("width");
  };
  const send = (event, phase) => {
    const box = image.getBoundingClientRect();
    model.set("pointer", [(event.clientX - box.left) * model.get("width") / box.width,
                          (event.clientY - box.top) * model.get("height") / box.height, phase, event.timeStamp]);
    model.save_changes();
  };
  let held = false;
  const release = event => { if (held) { held = false; image.style.cursor = "grab"; send(event, "up"); } };
  image.addEventListener("pointerdown", event => {
    held = true;
    image.setPointerCapture(event.pointerId);
    image.style.cursor = "grabbing";
    send(event, "down");
    event.preventDefault();
  });
  image.addEventListener("pointermove", event => { if (held) send(event, "move"); });
  image.addEventListener("pointerup", release);
  image.addEventListener("pointercancel", release);
  model.on("change:value", show);
  show();
  el.appendChild(image);
  return () => { model.off("change:value", show); if (url) URL.revokeObjectURL(url); };
}
export default { render };
"""


def pointer_image(panel, layout):
    """An anywidget with the picture of a panel in `value`; calls `panel.on_pointer(x, y, phase)`.

    Messages of one gesture may be coalesced on the way: a handler should go by positions, not by the number of
    calls. What the handler raises appears on the panel.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ReIDKitError("dragging in panels needs anywidget: pip install anywidget") from error

    class PointerImage(anywidget.AnyWidget):
        _esm = ESM
        value = traitlets.Bytes().tag(sync=True)
        width = traitlets.Int(panel.size[0]).tag(sync=True)
        height = traitlets.Int(panel.size[1]).tag(sync=True)
        alt = traitlets.Unicode(panel.title).tag(sync=True)
        pointer = traitlets.List([0.0, 0.0, "up", 0.0]).tag(sync=True)  # x, y, phase, time stamp

    widget = PointerImage(layout=layout)

    def moved(change):
        x, y, phase, _ = change["new"]
        panel.guard(panel.on_pointer, float(x), float(y), phase)

    widget.observe(moved, names="pointer")
    return widget
