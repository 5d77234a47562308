"""Panel 7: the features of CGPN one by one. What is left of Rank-1 and mAP without a branch, a stripe group, Eq. 3's?

CGPNExplorer("runs/cgpn-s0", dataset)          # also MGN and every relative of CGPN in the table of variants
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor
from traitlets import Bool, Int, Unicode

from reidkit.attention import attention_from_maps, global_maps
from reidkit.data import ReIDDataset
from reidkit.data.transforms import normalize
from reidkit.errors import ReIDKitError
from reidkit.evaluation import RankingResult, evaluate_ranking
from reidkit.models.cgpn import CGPN
from reidkit.models.mgn import MGN
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider, Toggle
from reidkit.panels.kit.drawing import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    LINE,
    MUTED,
    bar,
    canvas,
    overlay,
    paste,
    text,
)
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs

WHOLE = "global"
TILE_TOP, TILE_HIGH = 44, 190  # the stripe groups, drawn as in CGPN Fig. 3
NOTES = 472  # where the words below the images begin
LIST_TOP, LINE_HIGH = 284, 19  # the features and what each is worth alone


class CGPNExplorer(Panel):
    """CGPNExplorer(run, dataset): pick a branch and a stripe group; switch features on and off, ranking follows.

    run: the folder of a finished run of CGPN, one of its relatives, or MGN (or a `PanelRun`). dataset: what is
        ranked, at its current level; `subset(dataset, ids)` keeps it fast on a large set. Its part features are
        extracted once.
    """

    title = "CGPN explorer"
    prompt = (
        "Predict: which loses more mAP, all global features or all local ones? One branch or another? Switch "
        "them off (or click their names), and look where they look."
    )
    size = (940, 596)

    branch, group, image = Unicode(), Unicode(), Int(1)

    def __init__(self, run: str | Path | PanelRun, dataset: ReIDDataset) -> None:
        self.run, self.dataset = next(iter(open_runs([run], dataset).values())), dataset
        model = self.run.model
        if not isinstance(model, CGPN | MGN):
            raise ReIDKitError(f"{self.run.name} has no stripe groups: choose a run of cgpn, of a relative, or of mgn")
        self.places = model.places
        self.branches: dict[str, dict[str, int]] = {}  # branch -> {its feature: index}
        for k, name in enumerate(model.part_names):
            owner, feature = name.split("-", 1)
            self.branches.setdefault(owner, {})[feature] = k
        self.branch = next(iter(self.branches))
        self.group = list(self.branches[self.branch])[-1]
        self.add_traits(**{f"use_{k}": Bool(True) for k in range(model.num_parts)})
        self._recent, self._maps = Recent(256), Recent(24)
        super().__init__()

    def controls(self) -> Mapping[str, Slider | Choice | Toggle]:
        names, groups = self.run.model.part_names, tuple(self.branches.get(self.branch, ()))
        return {
            "branch": Choice("branch", tuple(self.branches)),
            "group": Choice("stripe group", groups),
            "image": Slider("query image", 1, len(self.dataset.query)),
            **{f"use_{k}": Toggle(f"use {name}") for k, name in enumerate(names)},
        }

    def actions(self) -> Mapping[str, Callable[[], None]]:
        places = self.places

        def only(wanted: Callable[[int], bool]) -> Callable[[], None]:
            return lambda: self.set(**{f"use_{k}": wanted(k) for k in range(len(places))})

        choices = {"all features": only(lambda k: True)}
        if len({group is None for _, group in places}) == 2:
            choices |= {
                "only global": only(lambda k: places[k][1] is None),
                "only local": only(lambda k: places[k][1] is not None),
            }
        return choices | {"this branch on/off": self.switch_branch}

    def switch_branch(self) -> None:
        """Switch all features of the chosen branch off, or on if they are off."""
        keys = [f"use_{k}" for k in self.branches[self.branch].values()]
        on = not any(getattr(self, key) for key in keys)
        self.set(**dict.fromkeys(keys, on))

    def _on_change(self, change) -> None:
        """A new branch keeps the stripe group where it has one of that name, else takes its first."""
        groups = self.branches.get(self.branch, {})
        if change["name"] == "branch" and groups and self.group not in groups and not self._quiet:
            self.set(group=next(iter(groups)))
        else:
            super()._on_change(change)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def ranking(self, features: tuple[int, ...]) -> RankingResult:
        """The data set ranked with these features alone, side by side."""
        if not features:
            raise ReIDKitError("every feature is switched off: nothing is left to compare images by. Switch one on")
        q, g, columns = self.dataset.query, self.dataset.gallery, list(features)
        return self._recent(
            features,
            lambda: evaluate_ranking(
                self.run.features(q)[:, columns].flatten(1),
                self.run.features(g)[:, columns].flatten(1),
                q.pid,
                g.pid,
                q.camid,
                g.camid,
                junk_pids=self.dataset.junk_pids,
            ),
        )

    def used(self, state) -> tuple[int, ...]:
        """Which features are switched on."""
        return tuple(k for k in range(self.run.num_parts) if getattr(state, f"use_{k}"))

    def chosen(self, state) -> int:
        """The index of the feature that branch and stripe group name."""
        return self.branches[state.branch][state.group]

    def attention(self, state) -> Tensor:
        """[1 or P, H, W] in [0, 1]: where the chosen feature looks. CGPN's global parts: their P responses (Fig. 5)."""
        k, path = self.chosen(state), self.dataset.query["path"].iloc[state.image - 1]
        model, images = self.run.model, normalize(self.run.image(path)[None])

        def make() -> Tensor:
            if state.group == WHOLE and hasattr(model, "global_responses"):
                return global_maps(model, images)[0, self.places[k][0]]  # [P, H, W]
            return attention_from_maps(model, self.run.maps(path), images, "layercam", parts=[k])[0]  # [1, H, W]

        return self._maps((k, path), make)

    # ---- picture -----------------------------------------------------------------------------------------------------

    def layout(self, state) -> Layout:
        wide, tall = self.size
        looks = Piece((0, 0, 422, NOTES))
        return Row(Stack(looks, Text((0, NOTES, 422, tall))), Piece((422, 0, wide, tall)))

    def draw(self, state) -> Sketch:
        picture = canvas(self.size)
        self._images(picture, state)
        self._groups(picture, state)
        self._worth(picture, state)
        return picture

    def _images(self, picture: Sketch, state) -> None:
        """The query with the stripe group marked, and where the feature looks."""
        row, (height, width) = self.dataset.query.iloc[state.image - 1], self.run.size
        tall, path = 420, self.dataset.query["path"].iloc[state.image - 1]
        wide, photo = tall * width / height, self.run.image(path)
        start, stop = self.run.model.part_extents[self.chosen(state)]
        text(picture, (0, 2), f"Query {state.image}: {image_name(row)}", bold=True)
        marked = photo.float()  # [3, H, W]; paler outside the group
        first, last = round(start * height), round(stop * height)
        for pale in (marked[:, :first], marked[:, last:]):
            pale.mul_(105 / 255).add_(150)
        paste(picture, marked.round().byte(), (1, 44), (wide, tall), f"{state.branch}, {state.group}", letters=13)
        box = (1, 44 + start * tall, 1 + wide, 44 + stop * tall)
        picture.rectangle(box, outline=self._colour(state.branch), width=4)
        maps = self.attention(state)
        small = min(wide, (412 - wide - 10) / len(maps) - 12)
        for i, one in enumerate(maps):
            names = {2: ("upper part", "lower part")}.get(len(maps), [f"part {i + 1}" for i in range(len(maps))])
            title = names[i] if state.group == WHOLE and len(maps) > 1 else "where it looks"
            at = (wide + 16 + i * (small + 12), 44)
            paste(picture, overlay(photo, one), at, (small, small * height / width), title)
        responses = state.group == WHOLE and hasattr(self.run.model, "global_responses")
        note = (
            "The convolutions of the global part,\nbefore pooling (CGPN Fig. 5)."
            if responses
            else "LayerCAM of this feature's own classifier:\nnothing outside the stripe group can count."
        )
        text(picture, (1, NOTES + 6), note, 12, MUTED)
        rows = "" if state.group == WHOLE else f", rows {self._rows(state)} of the feature map"
        text(picture, (1, NOTES + 44), f"Covers {100 * (stop - start):.0f} % of the height{rows}.", 12, MUTED)

    def _rows(self, state) -> str:
        """First and last row of the group on its map, counted from 1; nothing for the whole map."""
        k = self.chosen(state)
        path = self.dataset.query["path"].iloc[state.image - 1]
        branch, group = self.places[k]
        if group is None:
            return ""
        first, end = group.rows(self.run.maps(path)[branch].shape[2])
        return f"{first + 1} – {end}"

    def _colour(self, branch: str) -> str:
        return COLOURS[list(self.branches).index(branch) % len(COLOURS)]

    def _tiles(self) -> list[tuple[tuple[int, int, int, int], int]]:
        """(box, feature) of the drawing of Fig. 3: one block a branch, one column a feature."""
        wide = min(40, (self.size[0] - 440 - 14 * len(self.branches)) // self.run.num_parts)
        tiles, x = [], 430
        for features in self.branches.values():
            for k in features.values():
                tiles.append(((x, TILE_TOP, x + wide - 4, TILE_TOP + TILE_HIGH), k))
                x += wide
            x += 14
        return tiles

    def _groups(self, picture: Sketch, state) -> None:
        """The one table of stripe groups as bars over the height of the map; pale = switched off."""
        used, chosen = self.used(state), self.chosen(state)
        text(picture, (430, 2), "The features: what part of the map each pools (pale: off)", bold=True)
        for (x0, y0, x1, y1), k in self._tiles():
            start, stop = self.run.model.part_extents[k]
            branch, feature = self.run.model.part_names[k].split("-", 1)
            colour = self._colour(branch)
            if feature == next(iter(self.branches[branch])):
                text(picture, (x0, y0 - 6), branch, 12, colour, "ld", bold=True)
            picture.rectangle([x0, y0, x1, y1], fill="#F4F4F4", outline=LINE)
            top, end = y0 + round(start * TILE_HIGH), y0 + round(stop * TILE_HIGH)
            picture.rectangle([x0, top, x1, end], fill=colour if k in used else "#E3E3E3", outline=colour)
            if feature == WHOLE:
                text(picture, ((x0 + x1) / 2, (y0 + y1) / 2), "G", 13, "white" if k in used else colour, "mm", True)
            if k == chosen:
                picture.rectangle([x0 - 3, y0 - 3, x1 + 3, y1 + 3], outline=INK, width=3)

    def _worth(self, picture: Sketch, state) -> None:
        """mAP of every feature alone, of those that are on, and of all."""
        used, everything = self.used(state), tuple(range(self.run.num_parts))
        now, full = self.ranking(used), self.ranking(everything)
        x, y = 430, TILE_TOP + TILE_HIGH + 18
        here = f"{len(self.dataset.query)} queries, {len(self.dataset.gallery)} gallery images"
        text(picture, (x, y), f"mAP alone (click a name: on or off); {here}", 12, MUTED)
        step = self._step()
        for k, name in enumerate(self.run.model.part_names):
            top, on = LIST_TOP + step * k, k in used
            text(
                picture,
                (x, top + step / 2),
                f"{'●' if on else '○'} {name}",
                min(12, step - 3),
                INK if on else GREY,
                "lm",
                bold=k == self.chosen(state),
            )
            value = self.ranking((k,)).mAP
            bar(
                picture,
                (x + 110, top + 2, 868, top + step - 3),
                value,
                f"{100 * value:.1f}",
                self._colour(name.split("-", 1)[0]) if on else "#CFCFCF",
                size=min(12, step - 3),
            )
        top = LIST_TOP + step * self.run.num_parts + 8
        for label, r, colour in ((f"{len(used)} on", now, INK), (f"all {len(everything)}", full, BLUE)):
            text(picture, (x, top + 10), label, 13, anchor="lm", bold=True)
            bar(picture, (x + 110, top + 2, 868, top + 18), r.mAP, f"{100 * r.mAP:.1f}", colour, size=13)
            text(picture, (x + 116, top + 10), f"Rank-1 {100 * r.rank(1):.1f}", 12, "white", "lm")
            top += 24

    def _step(self) -> int:
        return min(LINE_HIGH, (self.size[1] - LIST_TOP - 62) // self.run.num_parts)

    def status(self, state) -> str:
        now, full = self.ranking(self.used(state)), self.ranking(tuple(range(self.run.num_parts)))
        alone, gain = self.ranking((self.chosen(state),)), 100 * (now.mAP - full.mAP)
        return (
            f"{len(self.used(state))} of {self.run.num_parts} features on: Rank-1 {100 * now.rank(1):.1f}, mAP "
            f"{100 * now.mAP:.1f} ({gain:+.1f} against all); {state.branch} {state.group} alone: "
            f"Rank-1 {100 * alone.rank(1):.1f}, mAP {100 * alone.mAP:.1f}"
        )

    def on_pointer(self, x: float, y: float, phase: str) -> None:
        """A click on a bar of Fig. 3 picks that feature, one on its name switches it on or off."""
        if phase != "down":
            return
        for (x0, y0, x1, y1), k in self._tiles():
            if x0 <= x <= x1 and y0 <= y <= y1:
                branch, group = self.run.model.part_names[k].split("-", 1)
                self.set(branch=branch, group=group)
        k = int((y - LIST_TOP) // self._step())
        if x >= 430 and y >= LIST_TOP and k < self.run.num_parts:
            self.set(**{f"use_{k}": not getattr(self, f"use_{k}")})
