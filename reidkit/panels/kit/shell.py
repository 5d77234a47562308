"""The thin widget around a panel: prompt, controls, picture, numbers, error line, reset."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.controls import Slider, Toggle
from reidkit.panels.kit.pointer import picture_widget

if TYPE_CHECKING:
    from reidkit.panels.kit.base import Panel

ERROR_STYLE = "border-left:4px solid #D55E00; padding:4px 8px; background:#FFF3EA; color:#5A2400; line-height:1.4"
ROUNDING = 1e-9  # between a number and what a browser's slider makes of it
LONG = 24  # a slider through more images than that gets a line of its own


class Shell:
    """ipywidgets that show a panel and pass on what the reader does. `box` is the widget to display.

    CSS classes for style sheets and tests: reidkit-panel and the panel's class name on the box, reidkit-picture,
    reidkit-status, reidkit-error, reidkit-prompt. Everything is reached by Tab, sliders move by the arrow keys.
    """

    def __init__(self, panel: Panel):
        try:
            import ipywidgets as w
        except ImportError as error:
            raise ReIDKitError("panels need ipywidgets: pip install ipywidgets") from error
        self.panel = panel
        self._syncing = False
        self._records = dict(panel._controls)
        self._told = {name: [getattr(panel, name)] for name in self._records}  # the last two
        self.controls = {name: self._control(name) for name in self._records}
        self.buttons = [self._button(w, label, action) for label, action in self._actions().items()]
        self.picture = picture_widget(panel)
        self.status, self.error = w.HTML(), w.HTML()
        head = w.HTML(f"<b>{html.escape(panel.title)}</b><br>{html.escape(panel.prompt)}")
        named = {"prompt": head, "picture": self.picture, "status": self.status, "error": self.error}
        for name, widget in named.items():
            widget.add_class(f"reidkit-{name}")
        rows = w.Box(
            [*self.controls.values(), *self.buttons, *panel.extra_widgets()],
            layout=w.Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 14px"),
        )
        self.box = w.VBox(
            [head, rows, self.error, self.picture, self.status], layout=w.Layout(width="100%", overflow="visible")
        )
        self.box.add_class("reidkit-panel")
        self.box.add_class(type(panel).__name__)

    def _actions(self):
        return {**self.panel.actions(), "reset": self.panel.reset}

    def _control(self, name: str):
        record, value = self._records[name], getattr(self.panel, name)
        record.check(value)
        widget = record.widget(value)
        widget.layout.width = "auto"
        if not isinstance(record, Toggle):
            long = isinstance(record, Slider) and record.whole and record.steps > LONG
            widget.layout.flex, widget.layout.max_width = ("1 1 100%", "100%") if long else ("1 1 250px", "380px")
            widget.layout.min_width = "0"
        widget.style.description_width = "initial" if isinstance(record, Toggle) else "7.2em"
        widget.observe(lambda change: self._moved(name, change["new"]), names="value")
        return widget

    def _button(self, w, label: str, action):
        button = w.Button(description=label)
        button.on_click(lambda _: self.panel.guard(action))
        return button

    def _moved(self, name: str, value) -> None:
        if self._syncing:
            return
        if self._is_echo(name, value):
            if abs(value - getattr(self.panel, name)) > ROUNDING:  # the panel has gone on: a reset
                self._sync(name)
        else:
            setattr(self.panel, name, value)

    def _is_echo(self, name: str, value) -> bool:
        """A slider of fractions sends a value that it was told back as it computes it, 0.2 as 0.19999999999999996.

        Once, and perhaps only after a reset: no move of a reader's.
        """
        if not isinstance(value, float):
            return False
        for told in self._told[name]:
            if 0 < abs(value - told) < ROUNDING:
                self._told[name].remove(told)
                return True
        return False

    def _sync(self, name: str) -> None:
        """Show a value of the panel's on its control."""
        self._syncing = True
        try:
            self.controls[name].value = getattr(self.panel, name)
        finally:
            self._syncing = False

    def refresh(self) -> None:
        """Show the panel's picture, numbers, error and values; move no slider to where it cannot go."""
        panel = self.panel
        for name, record in panel._controls.items():
            self._update(name, record)
            self._show(name, record)
        hidden = panel.hidden()
        for name, widget in self.controls.items():
            widget.layout.display = "none" if name in hidden else ""
        self.picture.value = panel.markup()
        self.status.value = panel.status_html()
        self.error.value = f'<div style="{ERROR_STYLE}">{panel.error_html()}</div>' if panel.error else ""
        self.error.layout.display = "" if panel.error else "none"

    def _update(self, name: str, record) -> None:
        """Other limits or options, where the state has changed them."""
        if record == self._records[name]:
            return
        self._syncing = True
        try:
            record.update(self.controls[name])
            self._records[name] = record
        finally:
            self._syncing = False

    def _show(self, name: str, record) -> None:
        value = getattr(self.panel, name)
        try:
            record.check(value)
        except ReIDKitError:
            return  # said on the error line; the widget keeps the last value that it can show
        if self.controls[name].value != value:
            self._told[name] = [*self._told[name][-1:], value]
            self._sync(name)
