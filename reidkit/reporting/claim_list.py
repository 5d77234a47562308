"""Every sentence of both papers that puts one system above another, as pairs of variants.

A sentence stands beside its pairs, so that the page of verdicts (docs/claims.md) shows both. What a pair is
tested with is the row of its suite: "ide" in CGPN's Table 1 is tested with mirror images, as CGPN is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse`, says section `where` of a paper in the words of `says`; `suite` trains both.

    on: the data sets and Sidewalk's test levels that the sentence speaks of; empty where it speaks of all.
    """

    better: str
    worse: str
    where: str
    suite: str
    says: str = ""
    on: tuple[str, ...] = ()

    def speaks_of(self, *names: str) -> bool:
        """Whether the sentence is about one of these data sets and levels."""
        return not self.on or not set(self.on).isdisjoint(names)

    @property
    def systems(self) -> tuple[str, str]:
        """The two rows of the suite, as a table of results names them: ("cgpn", "ide test_flip=mean")."""
        from reidkit.training.suites import systems_of

        rows = systems_of(self.suite)
        return rows.get(self.better, self.better), rows.get(self.worse, self.worse)


def _claims(suite: str, where: str, says: str, *pairs: tuple[str, str], on: tuple[str, ...] = ()) -> tuple[Claim, ...]:
    return tuple(Claim(better, worse, where, suite, says, on) for better, worse in pairs)


def _above(better: str, *others: str) -> tuple[tuple[str, str], ...]:
    return tuple((better, other) for other in others)


# CGPN Sec. 4.4 and 4.5 set Market-1501 and DukeMTMC against CUHK03, where people are occluded or cut.
HOLISTIC = ("mild", "market1501", "dukemtmc")
OCCLUDED = ("strong", "cuhk03-labeled", "cuhk03-detected", "occluded-duke")
SOFT = {conv: tuple(f"soft-{conv}-{w}" for w in (0.01, 0.1, 1, 10)) for conv in ("c1", "c2")}

MPN_CLAIMS = (
    *_claims(
        "mpn-table1",
        "MPN 5.2.1",
        "Baseline (UB) is the upper bound of the baseline; MT Only outperforms the baseline; naive MTL consistently "
        "outperforms both.",
        ("baseline-ub", "baseline"),
        ("mt-only", "baseline"),
        *_above("naive-mtl", "baseline", "mt-only"),
    ),
    *_claims(
        "mpn-table1",
        "MPN 5.2.2",
        "Both C1-S and C2-S further improve naive MTL, C1-S more than C2-S; both together are consistently stronger, "
        "and significantly better than the baseline.",
        ("psa-c1", "naive-mtl"),
        ("psa-c2", "naive-mtl"),
        ("psa-c1", "psa-c2"),
        *_above("psa", "psa-c1", "psa-c2", "baseline"),
    ),
    *_claims(
        "mpn-table1",
        "MPN 5.2.3",
        "MTL with FSA consistently outperforms the baseline by a large margin.",
        ("fsa", "baseline"),
    ),
    *_claims(
        "mpn-table1",
        "MPN 5.2.4",
        "MPNo consistently outperforms all models in the above experiments; channel attention consistently improves "
        "it.",
        *_above("mpn-no-ca", "baseline", "baseline-ub", "mt-only", "naive-mtl", "psa-c1", "psa-c2", "psa", "fsa"),
        ("mpn", "mpn-no-ca"),
    ),
    *_claims(
        "mpn-table2",
        "MPN 5.3.1",
        "With any prior MPN significantly outperforms the models that adopt no prior (our prior over them: 5.2.4); the "
        "more accurate the prior, the better.",
        *_above("mpn-no-ca-uniform", "mt-only", "baseline"),
        *_above("mpn-no-ca-roi", "mt-only", "baseline", "mpn-no-ca-uniform"),
        ("mpn-no-ca", "mpn-no-ca-roi"),
    ),
    *_claims(
        "mpn-fig10",
        "MPN 5.3.2",
        "Hard parameter sharing consistently outperforms soft parameter sharing on each of the two layers.",
        *(pair for conv in SOFT for pair in _above(f"psa-{conv}", *SOFT[conv])),
    ),
    *_claims(
        "mpn-table3",
        "MPN 5.3.3",
        "All four types of constraints promote naive MTL; the batch-wise one is inferior to the others, the class-wise "
        "one is best.",
        *((name, "naive-mtl") for name in ("align-batch", "align-sample-triplet", "align-sample", "fsa")),
        *((name, "align-batch") for name in ("align-sample-triplet", "align-sample", "fsa")),
        *_above("fsa", "align-sample-triplet", "align-sample"),
    ),
    *_claims(
        "mpn-table4",
        "MPN 5.3.3, with PSA",
        "The same order where parameters are shared too.",
        *((name, "align-batch-psa") for name in ("align-sample-triplet-psa", "align-sample-psa", "mpn-no-ca")),
        *_above("mpn-no-ca", "align-sample-triplet-psa", "align-sample-psa"),
    ),
    *_claims(
        "mpn-table5",
        "MPN 5.4.1",
        "MPN outperforms all state-of-the-art approaches (of which the kit builds these); with the spatial attention "
        "of RGA-SC its performance is further promoted. Sections 5.4.2 and 5.4.3 say the same on other photographs.",
        *_above("mpn", "pcb", "mgn", "dsa", "pyramid"),
        ("mpn-rga", "mpn"),
    ),
    *_claims("mpn-table8", "MPN 5.4.4", "MPN outperforms the baseline on MSMT17.", ("mpn", "baseline")),
)

CGPN_CLAIMS = (
    *_claims(
        "cgpn-table1",
        "CGPN 4.3, Table 1",
        "CGPN always outperforms all other existing methods (of which the kit builds these).",
        *_above("cgpn", "mgn", "dsa", "pyramid", "ide"),
    ),
    *_claims(
        "cgpn-table3",
        "CGPN 4.4, coarse local parts",
        "The coarse local part is critical (CGPN-1 lacks it); coarse stripes are more robust than fine ones (CGPN-2).",
        *_above("cgpn", "cgpn-1", "cgpn-2"),
    ),
    *_claims(
        "cgpn-table3",
        "CGPN 4.5, supervised global parts",
        "The global part is critical (CGPN-3 lacks it), and so is its supervision (CGPN-4).",
        *_above("cgpn", "cgpn-3", "cgpn-4"),
    ),
    *_claims(
        "cgpn-table3",
        "CGPN 4.5, unsupervised global parts",
        "Unsupervised global parts help on holistic images (CGPN-4 over CGPN-3) ...",
        ("cgpn-4", "cgpn-3"),
        on=HOLISTIC,
    ),
    *_claims(
        "cgpn-table3",
        "CGPN 4.5, the same on occluded people",
        "... and harm on occluded ones.",
        ("cgpn-3", "cgpn-4"),
        on=OCCLUDED,
    ),
    *_claims(
        "cgpn-table4",
        "CGPN 4.6, two 1x1 convs",
        "The global part reaches its best performance with two 1x1 convs (in mAP; in Rank-1 Table 4 has three ahead).",
        *_above("cgpn-global-2", *(f"cgpn-global-{n}" for n in (3, 4, 8))),
    ),
    *_claims(
        "cgpn-table4",
        "CGPN 4.6, more branches help",
        "With more branches performance is significantly improved; the features of the three are complementary.",
        *(
            (pair, one)
            for pair in ("cgpn-b12", "cgpn-b13", "cgpn-b23")
            for one in ("cgpn-b1", "cgpn-b2", "cgpn-b3")
            if one[-1] in pair[-2:]
        ),
        *_above("cgpn", "cgpn-b12", "cgpn-b13", "cgpn-b23"),
    ),
    *_claims(
        "cgpn-table4",
        "CGPN 4.6, but not too many",
        "With Branch 4, and with Branches 4 and 5, performance decreases.",
        *_above("cgpn", "cgpn-b1234", "cgpn-b12345"),
    ),
)

# MPN Sec. 5.1: K is set to 6 by Fig. 7. Systems, not variants: the rows differ in one setting.
FIG7_CLAIMS = tuple(
    Claim(
        "mpn model.num_parts=6",
        f"mpn model.num_parts={k}",
        "MPN 5.1",
        "mpn-fig7",
        "We empirically set K as 6, according to the evaluation results in Fig. 7.",
    )
    for k in (1, 2, 3, 4, 8, 12)
)

# CGPN Sec. 4.4 and 4.5: on CUHK03, with its occluded and cut people, the decrease is sharper than on the other sets.
SHARPER_CLAIMS = _claims(
    "cgpn-table3",
    "CGPN 4.4 and 4.5",
    "What CGPN gains is larger where people are occluded or cut.",
    *_above("cgpn", "cgpn-1", "cgpn-2", "cgpn-4"),
)


@dataclass(frozen=True)
class MapClaim:
    """`more` has a higher score `measure` of `results/sidewalk/attention.csv` than `less` (MPN Sec. 5.2.5, Fig. 8)."""

    more: str
    less: str
    measure: str
    says: str


MAP_CLAIMS = (
    MapClaim(
        "naive-mtl", "mpn", "similarity", "The K maps of naive MTL are very similar: they lack diversity (Fig. 8b)."
    ),
    MapClaim("mpn", "naive-mtl", "own_energy", "MPN learns reasonable spatial localisation of body parts (Fig. 8c)."),
    MapClaim("baseline", "mpn", "background", "The baseline's attention focuses on the background (Fig. 8a)."),
    MapClaim("mpn", "baseline", "shift", "MPN's maps stay on the body in the face of detection errors (Fig. 9a, 9b)."),
)


@dataclass(frozen=True)
class ArmClaim:
    """`measure` of `results/sidewalk/sleeves.csv` is above zero for the maps of `variant` (MPN Sec. 5.2.5)."""

    variant: str
    measure: str
    says: str


ARM_CLAIMS = (
    ArmClaim(
        "mpn",
        "lower_difference",
        "Lower arms are ignored where people wear short sleeves; MPN attends to them where they wear long ones.",
    ),
    ArmClaim(
        "mpn", "upper_lead", "The first layer of the second MT-AT pair selects the channels that stand for upper arms."
    ),
)
