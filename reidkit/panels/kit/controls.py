"""What moves a value of a panel's state: a slider, a choice, a tick box. Plain records, no widgets in them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidkit.errors import ReIDKitError


@dataclass(frozen=True)
class Slider:
    """A number in low .. high; whole numbers when `low`, `high` and `step` are whole."""

    label: str
    low: float
    high: float
    step: float = 1

    @property
    def whole(self) -> bool:
        """Whether every value is a whole number."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step))

    @property
    def steps(self) -> int:
        """How many steps it is from end to end."""
        return round((self.high - self.low) / self.step)

    def check(self, value: Any) -> None:
        """ReIDKitError for a value that the slider cannot show."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise ReIDKitError(f"{self.label} = {value!r}: choose {self.low} .. {self.high}")

    def widget(self, value: Any):
        """An ipywidgets slider at `value`, with a field to type a number."""
        import ipywidgets as w

        kind = w.IntSlider if self.whole else w.FloatSlider
        decimals = 3 if self.step < 0.01 else 2
        options = {} if self.whole else {"readout_format": f".{decimals}f"}
        return kind(value=value, min=self.low, max=self.high, step=self.step, description=self.label, **options)

    def update(self, widget) -> None:
        """Give a widget of another Slider these limits."""
        with widget.hold_trait_notifications():
            widget.min, widget.max, widget.step = self.low, self.high, self.step
        widget.description = self.label


@dataclass(frozen=True)
class Choice:
    """One of a few values. options: the values themselves, or pairs (what the reader sees, value)."""

    label: str
    options: tuple[Any, ...]

    def __init__(self, label: str, options: Sequence[Any] | Mapping[str, Hashable]):
        pairs = options.items() if isinstance(options, Mapping) else options
        pairs = tuple(o if isinstance(o, tuple) and len(o) == 2 else (str(o), o) for o in pairs)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "options", pairs)

    def check(self, value: Any) -> None:
        """ReIDKitError for a value that is not on offer."""
        if value not in [v for _, v in self.options]:
            names = ", ".join(name for name, _ in self.options[:12])
            raise ReIDKitError(f"{self.label} = {value!r}: choose one of {names}")

    def widget(self, value: Any):
        """An ipywidgets drop-down list at `value`."""
        import ipywidgets as w

        return w.Dropdown(options=self.options, value=value, description=self.label)

    def update(self, widget) -> None:
        """Give a widget of another Choice these options."""
        widget.options, widget.description = self.options, self.label


@dataclass(frozen=True)
class Toggle:
    """On or off."""

    label: str

    def check(self, value: Any) -> None:
        """ReIDKitError for anything but True and False."""
        if not isinstance(value, bool):
            raise ReIDKitError(f"{self.label} = {value!r}: choose True or False")

    def widget(self, value: Any):
        """An ipywidgets tick box at `value`."""
        import ipywidgets as w

        return w.Checkbox(value=value, description=self.label, indent=False)

    def update(self, widget) -> None:
        """Give a widget of another Toggle this label."""
        widget.description = self.label


Control = Slider | Choice | Toggle
