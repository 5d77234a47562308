"""A panel's picture on the page: SVG pieces that report the mouse, a crop that follows it before the kernel answers.

Works offline (anywidget, inline code). A gesture's moves are sent one at a time: the next one leaves when the kernel
has answered the last, so none waits in a queue. A button that is clicked while a drag is on its way waits for it: a
kernel deals with the messages of two widgets side by side, and a reset that overtook the drag would be undone by it.
"""

from __future__ import annotations

from typing import Any

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.layout import STYLE

ESM = """
function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "reidkit-sketch";
  el.appendChild(host);
  let held = null;     // while the button is down: number of the piece, point where it went down
  let wanted = null;   // where the crop should be: {dx, dy}, shares of its width and height
  let last = model.get("answered"), waiting = null, frame = 0;

  const point = (piece, event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(piece.getScreenCTM().inverse());
    return [at.x, at.y];
  };
  const pieces = () => [...host.querySelectorAll("svg.reidkit-piece")];
  const grip = () => host.querySelector("svg.reidkit-grip");
  const follow = () => {  // the crop stands where the mouse is, whatever the kernel has drawn so far
    frame = 0;
    const frame_ = grip();
    if (!frame_ || !wanted) return;
    const view = frame_.viewBox.baseVal;
    const x = (wanted.dx - Number(frame_.dataset.dx)) * view.width;
    const y = (wanted.dy - Number(frame_.dataset.dy)) * view.height;
    frame_.firstElementChild.setAttribute("transform", `translate(${x} ${y})`);
  };
  const soon = () => { if (!frame) frame = requestAnimationFrame(follow); };
  const show = () => {
    host.innerHTML = model.get("value");
    host.setAttribute("aria-label", model.get("alt"));
    follow();
  };
  const send = (x, y, phase) => model.send({ x, y, phase, number: ++last });
  const answered = () => {
    if (model.get("answered") < last) return;
    if (waiting) { const [x, y] = waiting; waiting = null; send(x, y, "move"); }
    else if (!held) {
      wanted = null;
      grip()?.firstElementChild.removeAttribute("transform");
      for (const button of later.splice(0)) button.click();
    }
  };
  const later = [];  // buttons of this panel that wait for the drag
  const hold = event => {
    const button = event.target.closest?.("button");
    if (!button || model.get("answered") >= last || !host.closest(".reidkit-panel")?.contains(button)) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    later.push(button);
  };
  const limit = share => Math.min(0.5, Math.max(-0.5, share));

  host.addEventListener("pointerdown", event => {
    const piece = event.target.closest?.("svg.reidkit-piece");
    if (!piece || event.button !== 0) return;
    const [x, y] = point(piece, event), frame_ = grip();
    held = { number: pieces().indexOf(piece), x, y };
    if (event.target.closest("svg.reidkit-grip")) {
      held.dx = wanted ? wanted.dx : Number(frame_.dataset.dx);
      held.dy = wanted ? wanted.dy : Number(frame_.dataset.dy);
    }
    if (piece.matches(".reidkit-grab")) { host.setPointerCapture(event.pointerId); event.preventDefault(); }
    waiting = null;
    send(x, y, "down");
  });
  host.addEventListener("pointermove", event => {
    if (!held) return;
    if (event.buttons === 0) return release(event);  // it went up elsewhere
    const piece = pieces()[held.number];
    if (!piece) return;
    const [x, y] = point(piece, event), frame_ = grip();
    if (held.dx !== undefined && frame_) {
      const view = frame_.viewBox.baseVal;
      wanted = { dx: limit(held.dx + (x - held.x) / view.width), dy: limit(held.dy + (y - held.y) / view.height) };
      soon();
    }
    if (model.get("answered") < last) waiting = [x, y];
    else send(x, y, "move");
  });
  const release = event => {
    if (!held) return;
    const piece = pieces()[held.number];
    held = null;
    waiting = null;
    if (piece) send(...point(piece, event), "up");
  };
  host.addEventListener("pointerup", release);
  host.addEventListener("pointercancel", release);
  document.addEventListener("click", hold, true);
  model.on("change:value", show);
  model.on("change:answered", answered);
  show();
  return () => {
    document.removeEventListener("click", hold, true);
    model.off("change:value", show);
    model.off("change:answered", answered);
  };
}
export default { render };
"""


def picture_widget(panel: Any) -> Any:
    """An anywidget with a panel's markup in `value`; calls `panel.on_pointer(x, y, phase)`, where there is one.

    x, y are in units of the panel's drawing. A handler should go by positions, not by the number of calls: moves that
    the kernel is too slow for are left out. What it raises appears on the panel.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ReIDKitError("panels need anywidget: pip install anywidget") from error

    class PanelPicture(anywidget.AnyWidget):
        _esm = ESM
        _css = STYLE
        value = traitlets.Unicode().tag(sync=True)
        alt = traitlets.Unicode(panel.title).tag(sync=True)
        answered = traitlets.Int(0).tag(sync=True)  # number of the last message of the mouse that was dealt with

    picture = PanelPicture()

    def moved(_widget, message, _buffers):
        try:
            if hasattr(panel, "on_pointer"):
                panel.guard(panel.on_pointer, float(message["x"]), float(message["y"]), message["phase"])
        finally:
            picture.answered = int(message["number"])

    picture.on_msg(moved)
    return picture
