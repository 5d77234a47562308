"""How the pieces of a drawing flow on a page: beside each other where it is wide, below each other where it is not.

A layout names boxes of the drawing. Together they show all of it; where a piece stands on the page is up to the page:

    Row(Piece((0, 0, 300, 400)), Stack(Text((300, 0, 940, 40)), Piece((300, 40, 940, 400))))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reidkit.panels.kit.sketch import Box, Sketch, Words, svg_of

GAP = 8  # pixels between pieces


@dataclass(frozen=True)
class Piece:
    """A box of the drawing, as SVG. grab: dragging in it moves something, so a finger on it does not scroll.
    flat: it fills the width at its own height (a curve)."""

    box: Box
    grab: bool = False
    flat: bool = False

    @property
    def width(self) -> float:
        """Units that it takes beside others."""
        return self.box[2] - self.box[0]

    def markup(self, sketch: Sketch) -> str:
        """Itself as HTML."""
        kind = "reidkit-piece" + " reidkit-grab" * self.grab
        options = f'class="{kind}"'
        if self.flat:
            options += f' preserveAspectRatio="none" style="height:{self.box[3] - self.box[1]:g}px"'
        return svg_of(sketch.inside(self.box), self.box, options)


@dataclass(frozen=True)
class Text:
    """The words of a box as HTML paragraphs, which break where the page ends."""

    box: Box

    @property
    def width(self) -> float:
        """Units that it takes beside others."""
        return self.box[2] - self.box[0]

    def markup(self, sketch: Sketch) -> str:
        """Itself as HTML."""
        words = [item for item in sketch.inside(self.box) if isinstance(item, Words)]
        return f'<div class="reidkit-text">{"".join(item.paragraph() for item in words)}</div>'


@dataclass(frozen=True)
class Tiles:
    """Pieces of one size, as many in a row as fit, `columns` at most."""

    pieces: Sequence[Piece]
    columns: int

    @property
    def width(self) -> float:
        """Units that it takes beside others."""
        return self.columns * (max(p.width for p in self.pieces) + GAP) - GAP

    def markup(self, sketch: Sketch) -> str:
        """Itself as HTML."""
        least, gaps = max(p.width for p in self.pieces), (self.columns - 1) * GAP
        track = f"minmax(max({0.8 * least:.0f}px, calc((100% - {gaps}px) / {self.columns} - 0.1px)), 1fr)"
        inner = "".join(piece.markup(sketch) for piece in self.pieces)
        return f'<div class="reidkit-tiles" style="grid-template-columns:repeat(auto-fill,{track})">{inner}</div>'


@dataclass(frozen=True)
class Stack:
    """Layouts below each other."""

    parts: Sequence[Layout]

    def __init__(self, *parts: Layout):
        object.__setattr__(self, "parts", parts)

    @property
    def width(self) -> float:
        """Units that it takes beside others."""
        return max(part.width for part in self.parts)

    def markup(self, sketch: Sketch) -> str:
        """Itself as HTML."""
        return f'<div class="reidkit-stack">{"".join(part.markup(sketch) for part in self.parts)}</div>'


@dataclass(frozen=True)
class Row:
    """Layouts beside each other; what finds no room goes to the next line and fills it, up to twice its width."""

    parts: Sequence[Layout]

    def __init__(self, *parts: Layout):
        object.__setattr__(self, "parts", parts)

    @property
    def width(self) -> float:
        """Units that it takes beside others."""
        return sum(part.width for part in self.parts)

    def markup(self, sketch: Sketch) -> str:
        """Itself as HTML."""
        how = "flex:{0:.0f} 1 {1:.0f}px;max-width:{2:.0f}px"
        styles = [how.format(part.width, 0.8 * part.width, 2.4 * part.width) for part in self.parts]
        cells = [f'<div style="{style}">{part.markup(sketch)}</div>' for style, part in zip(styles, self.parts)]
        return f'<div class="reidkit-row">{"".join(cells)}</div>'


Layout = Piece | Text | Tiles | Stack | Row

STYLE = """
.reidkit-panel {container-type: inline-size; width: 100%;
  --jp-widgets-font-size: clamp(13px, 1vw, 18px); --jp-widgets-inline-height: clamp(28px, 2vw, 36px)}
.reidkit-picture {width: 100%; min-width: 0}
.reidkit-sketch {width: 100%; background: white; color: black}
.reidkit-sketch .reidkit-piece {display: block; width: 100%; height: auto; max-height: max(48cqw, 560px);
  overflow: hidden}
.reidkit-row {display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start}
.reidkit-row > div {min-width: 0}
.reidkit-stack {display: flex; flex-direction: column; gap: 8px}
.reidkit-tiles {display: grid; gap: 8px; align-items: start}
.reidkit-text p {margin: 0 0 2px; line-height: 1.4; font-size: clamp(13px, 1.4cqw, 22px); white-space: pre-wrap;
  overflow-wrap: anywhere}
.reidkit-grab {cursor: grab; touch-action: none}
.reidkit-prompt, .reidkit-status {line-height: 1.4; overflow-wrap: anywhere}
.reidkit-prompt .widget-html-content, .reidkit-status .widget-html-content
  {font-size: clamp(13px, 1.3cqw, 20px); line-height: 1.45; white-space: normal}
.reidkit-panel .widget-readout {border: 1px solid #BDBDBD; border-radius: 2px; min-width: 52px; overflow: hidden;
  text-align: center; background: white}
.jp-OutputArea-child:has(.reidkit-panel) + .jp-OutputArea-child:has(.jp-RenderedImage) {display: none}
"""
