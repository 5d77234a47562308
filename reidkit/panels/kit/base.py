"""What every panel is made of: a state, a pure `draw(state) -> Sketch`, and a thin widget around the two.

A panel is a subclass of `Panel`. It declares its state as traits, says with which control each one is moved, and
draws a `Sketch` from a state; everything else (widgets, keyboard, reset, the error line, the page's SVG, the static
picture for a page without a kernel) is here.

    class Parity(Panel):
        title, prompt = "Parity", "Predict the colour of 7 before you move there."
        size = (200, 80)                                    # of the drawing
        n = Int(0)                                          # the state: one trait a value

        def controls(self):
            return {"n": Slider("number", 0, 9)}

        def draw(self, state):
            sketch = Sketch(self.size)
            sketch.rectangle((0, 0, 200, 80), fill="black" if state.n % 2 else "white")
            return sketch

    panel = Parity()          # in a notebook, ending a cell with `panel` shows it
    panel.n = 3               # moves the slider, redraws
    panel.picture             # the PIL image of now; panel.error says why there is none
    panel.render(panel.state(n=4))                          # the PIL image of another state; changes nothing

Importing this module needs traitlets; showing a panel needs ipywidgets (pip install ipywidgets).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import RLock
from types import SimpleNamespace
from typing import Any, ClassVar

from PIL import Image
from traitlets import HasTraits, Unicode

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.controls import Choice, Control, Slider, Toggle
from reidkit.panels.kit.layout import Layout, Piece
from reidkit.panels.kit.sketch import Sketch, of_picture

__all__ = ["Choice", "Control", "Panel", "Sketch", "Slider", "Toggle"]


class Panel(HasTraits):
    """Base of the panels. A subclass sets `title`, `prompt`, `size`, declares traits and writes two methods.

    controls() -> {trait name: Slider | Choice | Toggle}, in the order of display. It is asked again after every
        change, so a range or a list of choices may depend on the state.
    draw(state) -> Sketch of `size`. It reads the state and the data given to the constructor, and changes nothing: the
        same state gives the same drawing. To refuse a state, raise: the message appears on the panel. A panel that is
        one picture may define render(state) -> PIL image instead.

    Optional:
    layout(state) -> how the drawing's boxes flow on a page (`kit.layout`); without it the drawing is one piece.
    status(state) -> one line of numbers under the picture, also what a screen reader is told.
    actions() -> {button label: function without arguments}; a function that raises is reported on the panel.
    on_pointer(x, y, phase): if defined, the picture reports the mouse; x, y in units of the drawing, phase is
        "down", "move" (button held) or "up".
    hidden() -> names of controls that mean nothing in the current state, and are not shown.
    extra_widgets() -> further ipywidgets below the controls (a file upload).

    The constructor of a subclass stores its data and calls `super().__init__()` last: that draws the first picture.
    """

    title: ClassVar[str] = ""
    prompt: ClassVar[str] = ""
    size: ClassVar[tuple[int, int]] = (900, 420)
    error = Unicode(help="why the picture could not be drawn; empty when all is well")

    def __init__(self) -> None:
        super().__init__()
        self.sketch, self.status_text = Sketch(self.size), ""
        self._widget = None
        self._lock = RLock()  # a kernel may deal with the messages of two widgets in two threads
        self._quiet = False
        self._page: Layout = Piece((0, 0, *self.size))
        self._controls = dict(self.controls())
        unknown = [name for name in self._controls if not self.has_trait(name)]
        if unknown:
            raise ReIDKitError(f"{type(self).__name__} has controls for {unknown}, which are none of its traits")
        self._initial = vars(self.state())
        self.observe(self._on_change, names=list(self._controls))
        self.redraw()

    # ---- for subclasses ---------------------------------------------------------------------------------------------

    def controls(self) -> Mapping[str, Control]:
        """{trait: what moves it}, in the order of display."""
        raise NotImplementedError

    def draw(self, state: SimpleNamespace) -> Sketch:
        """The drawing of a state, of `size`; changes nothing, raises to refuse the state."""
        if type(self).render is Panel.render:
            raise NotImplementedError
        return of_picture(self.render(state))

    def layout(self, state: SimpleNamespace) -> Layout:
        """How the boxes of a state's drawing flow on a page."""
        return Piece((0, 0, *self.size))

    def status(self, state: SimpleNamespace) -> str:
        """One line of numbers about a state, shown under the picture."""
        return ""

    def actions(self) -> Mapping[str, Callable[[], None]]:
        """{button label: what it does}."""
        return {}

    def hidden(self) -> Collection[str]:
        """Names of controls that mean nothing in the current state."""
        return ()

    def extra_widgets(self) -> Sequence[Any]:
        """Further ipywidgets below the controls."""
        return ()

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def render(self, state: SimpleNamespace, scale: float = 1) -> Image.Image:
        """The picture of a state, scale * `size` pixels; changes nothing, raises to refuse the state."""
        return self.draw(state).raster(scale)

    @property
    def picture(self) -> Image.Image:
        """The picture of now, or the last good one."""
        return self.sketch.raster()

    def markup(self) -> str:
        """The drawing of now as HTML: pieces of SVG that flow, words that are text."""
        return self._page.markup(self.sketch)

    # ---- state ------------------------------------------------------------------------------------------------------

    def state(self, **changes: Any) -> SimpleNamespace:
        """The current value of every control, with some of them changed."""
        unknown = changes.keys() - self._controls.keys()
        if unknown:
            raise ReIDKitError(f"{type(self).__name__} has no control {sorted(unknown)}: {sorted(self._controls)}")
        return SimpleNamespace(**{name: getattr(self, name) for name in self._controls} | changes)

    def set(self, **changes: Any) -> None:
        """Change several values, draw once."""
        self.state(**changes)
        with self._lock:
            self._quiet = True
            try:
                for name, value in changes.items():
                    setattr(self, name, value)
            finally:
                self._quiet = False
            self.redraw()

    def reset(self) -> None:
        """Back to the state right after construction."""
        self.set(**self._initial)

    def redraw(self) -> None:
        """Draw the current state. Whatever goes wrong is on the error line, and the last good picture stays."""
        with self._lock:
            try:
                self._draw()
            except Exception as error:
                self.fail(error)
            else:
                self.error = ""
                self._refresh()

    def guard(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function; what it raises appears on the panel (JupyterLab hides exceptions of callbacks)."""
        try:
            function(*arguments)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Put an error on the error line; the next picture that can be drawn removes it."""
        own = isinstance(error, ReIDKitError)
        self.error = str(error) if own else f"{type(error).__name__}: {error}"
        self._refresh()

    def _draw(self) -> None:
        self._controls = dict(self.controls())
        state = self.state()
        for name, control in self._controls.items():
            control.check(getattr(state, name))
        sketch, layout, status = self.draw(state), self.layout(state), self.status(state)
        if sketch.size != self.size:
            raise ReIDKitError(f"{type(self).__name__} drew {sketch.size}; its size is {self.size}")
        self.sketch, self._page, self.status_text = sketch, layout, status

    def _on_change(self, _change) -> None:
        if not self._quiet:
            self.redraw()

    # ---- the widget -------------------------------------------------------------------------------------------------

    @property
    def widget(self):
        """The panel as an ipywidget, made on first use."""
        if self._widget is None:
            from reidkit.panels.kit.shell import Shell

            self._widget = Shell(self)
            self._refresh()
        return self._widget.box

    def _refresh(self) -> None:
        if self._widget is not None:
            self._widget.refresh()

    def status_html(self) -> str:
        """The line of numbers as HTML that a screen reader announces."""
        return f'<div role="status">{html.escape(self.status_text)}</div>'

    def error_html(self) -> str:
        """The error line as HTML that a screen reader announces at once; "" when all is well."""
        return f'<div role="alert"><b>Error.</b> {html.escape(self.error)}</div>' if self.error else ""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        """The live widget, and the picture of now for readers without a kernel."""
        words = f"{self.title}. {self.prompt} {self.status_text} {self.error}".strip()
        return (self.widget._repr_mimebundle_() or {}) | {"image/png": _base64(png(self.picture)), "text/plain": words}

    def _ipython_display_(self) -> None:
        """Two outputs: the live widget, then the static picture, which a live panel hides (see `layout.STYLE`).

        In one output JupyterLab would prefer the widget, and a notebook that is opened again after its kernel has
        gone would show "model not found" instead of the picture. As JPEG, in full colour, it keeps the file small.
        """
        from IPython.display import display

        live = self._repr_mimebundle_()
        static = {"image/jpeg": _base64(jpeg(self.picture)), "text/plain": live["text/plain"]}
        del live["image/png"]
        display(live, raw=True)
        display(static, raw=True)


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a JPEG file, its colours as fine as its lines."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, subsampling=0, optimize=True)
    return buffer.getvalue()
