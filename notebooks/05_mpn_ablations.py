# %% [markdown]
# # 05 MPN's ablations
#
# **What you will learn.** Which of the paper's claims about its rows appear here, which do not, and
# which a few seeds cannot decide; what each row switches on; and three figures: Rank-1 under shift,
# the number of parts K, soft against hard sharing. How such a verdict is computed stands in the
# appendix at the end. What stays open is taken up in [13 Look further](13_look_further.ipynb):
# scale, errors in the priors, cost.
#
# **Prerequisites.** [03 MPN step by step](03_mpn_step_by_step.ipynb); what a mean and a standard
# deviation are.
#
# **Paper.** MPN, Sec. 5.1 (Fig. 7), 5.2 and 5.3 (Tables 1 to 4, Fig. 10).
#
# **Minutes.** 1 on a 2-core CPU, 1 on a GPU. Nothing is trained here, the numbers come from
# finished runs; the commands that make them are printed where rows are missing, about a CPU minute
# a run.

# %%
from pathlib import Path

# Settings: the same names in every notebook. Change one, then run all cells again.
DATASET = {"name": "sidewalk", "size": "small"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0
RUNS = Path("../runs")  # your own runs, looked for first
SHIPPED = Path("../results/sidewalk/checkpoints")  # runs that ship with the kit
RESULTS = Path("../results/sidewalk/runs.csv")  # measured results of many seeds
SEEDS = 3  # seeds a row should have

# %% [markdown]
# ## The claims, and what became of them
#
# One table holds every finished run: one line a seed, test level and metric, with the commit,
# command and device that made it. The test levels of Sidewalk differ in how badly the boxes are
# placed: `mild`, `strong`, and `shift`, where the mild queries are drawn again with the person
# lower in the box by a known amount.

# %%
import figures
import numpy as np
import pandas as pd
from IPython.display import Markdown
from lesson import all_results, beside_the_paper, claims_overview, label_of, missing_runs

from reidkit.models.zoo import VARIANTS
from reidkit.reporting import claims, plots, report
from reidkit.training.suites import SUITES

everything, source = all_results((RESULTS, RUNS))
WHERE = label_of(DATASET)
NUMBERED = ("mpn-fig", *(f"mpn-table{n}" for n in (1, 2, 3, 4)))
MPN_SUITES = [s for s in SUITES if s.startswith(NUMBERED)]
systems = {entry.system for suite in MPN_SUITES for entry in SUITES[suite]}
here = (everything.dataset == WHERE) & (everything.preset == PRESET)
chosen = everything[here & everything.system.isin(systems)]
ours = chosen[chosen.level != "shift"]  # the crops as they are
shifted = chosen[chosen.level == "shift"]
LEVELS = list(dict.fromkeys(ours.level)) or ["mild", "strong"]
HARD = LEVELS[-1]  # the level with the most misalignment

# %%
count = f"{chosen.run.nunique()} runs of {chosen.system.nunique()} of MPN's systems"
print(f"{WHERE}, preset {PRESET}, from {source}: {count}")
devices = ", ".join(sorted(set(chosen.device))) or "no device"
print(f"{devices}; commits {', '.join(sorted(set(chosen.commit))) or 'none'}")
missing = missing_runs(everything, MPN_SUITES, SEEDS, dataset=WHERE, preset=PRESET)

# %% [markdown]
# Sec. 5.2 and 5.3 say which row is better than which. `reidkit/reporting/claims.py` lists each of
# these sentences as a pair, and a test holds the list to the paper's own tables. Both systems of a
# pair are compared seed by seed: a claim *appears* here if the whole 95 % interval of the
# difference lies above zero, it is *reversed* if it lies below, and else it is *undecided*.
# Undecided is not "no": it says that our spread is larger than the difference.
#
# *paper: mAP* is the paper's own difference, the mean over its data sets, on photographs with
# ResNet-50 (a dash: a curve without printed numbers). What begins with *ours* is measured by this
# kit on a rendered set with a small network, in points. **Compare signs, never values.**

# %%
TEXT = [c for c in claims.MPN_CLAIMS if c.suite in MPN_SUITES]  # Sec. 5.2 and 5.3
checked = {
    (level, metric): claims.check_claims(
        ours, TEXT, metric, level=level, dataset=WHERE, preset=PRESET
    )
    for level in LEVELS
    for metric in ("mAP", "rank1")
}
strong = checked[HARD, "mAP"]
claims_overview(checked, (HARD, "mAP"))

# %% [markdown]
# Look for claims whose sign changes from one level to the other. Fixed stripes lose only what
# misalignment takes from them, so a level with well placed boxes is kind to them.
#
# The next text is made from the numbers when the cell runs; no conclusion is written into this
# notebook.

# %%
Markdown(f"**{WHERE}, {HARD}, preset {PRESET}.** " + claims.explain(strong))

# %% [markdown]
# ### The same claims with the recipe that shows most
#
# `quick` takes minutes, and its maps of parts hardly differ. Whoever wants to see the method at
# work takes the preset `hero` on Sidewalk `medium` (192x64 pictures, 2,000 batches, an alignment
# whose weight grows: [results](../docs/results.md)), whose networks notebook 10 looks into. Its
# claims of Tables 1 and 2:

# %%
BEST = {"dataset": "sidewalk-medium", "preset": "hero"}
heroes = everything[(everything.dataset == BEST["dataset"]) & (everything.preset == BEST["preset"])]
heroes = heroes[heroes.level != "shift"]
TABLES_1_AND_2 = [c for c in TEXT if c.suite in ("mpn-table1", "mpn-table2")]
at_best = {
    (level, "mAP"): claims.check_claims(heroes, TABLES_1_AND_2, "mAP", level=level, **BEST)
    for level in dict.fromkeys(heroes.level)
}
at_best = {place: table[table.seeds > 0] for place, table in at_best.items()}
hardest = list(at_best)[-1]
claims_overview(at_best, hardest)

# %%
Markdown(f"**sidewalk-medium, {hardest[0]}, preset hero.** " + claims.explain(at_best[hardest]))

# %% [markdown]
# ## What each row switches on
#
# Table 1 marks its components with X. The kit has no second list of them: the marks below are read
# from the configurations that are trained (`reidkit/models/zoo.py`).


# %%
def switches(name):
    """The components of one variant, from its configuration and its losses."""
    config, loss = VARIANTS[name].config, VARIANTS[name].loss
    mark = lambda on: "X" if on else "-"
    if config.soft_share:
        sharing = {config.soft_share: f"soft {loss.soft_sharing_weight:g}"}
    else:
        sharing = dict.fromkeys(config.share, "X") if config.main and config.aux else {}
    return {
        "MT": mark(config.main),
        "AT": mark(config.aux),
        "AT reads": config.prior if config.aux else "-",
        "C1-S": sharing.get("conv1", "-"),
        "C2-S": sharing.get("conv2", "-"),
        "alignment": loss.alignment or "-",
        "CA": mark(config.channel_attention),
        "prior at test": mark(not config.main and config.prior != "uniform"),
    }


names = list(dict.fromkeys(e.variant for s in MPN_SUITES if s != "mpn-fig7" for e in SUITES[s]))
marks = pd.DataFrame(
    {n: {"row": VARIANTS[n].row.removeprefix("MPN "), **switches(n)} for n in names}
).T
marks[~marks.row.str.startswith("Fig")]

# %% [markdown]
# MT: main task, AT: auxiliary task, C1-S and C2-S: the first and the second 1 x 1 conv are shared
# between them (PSA), alignment `class`: Eq. 8 (FSA, "CF" in Table 1), CA: channel attention.
# `Baseline` has auxiliary tasks only, and tests with them. Baseline (UB) cuts its stripes
# inside the person, with the prior in training *and at test* (the paper corrects the image, the kit
# crops and resizes the rows of F): its test needs the two tools, all others need the image alone.
#
# **Predict.** Order these five from worst to best in mAP on badly placed boxes. Which neighbouring
# pair will be closest?

# %%
prediction = None  # e.g. ["psa", "baseline", "mpn-no-ca", "mt-only", "naive-mtl"], worst to best

# %%
from lesson import pairs_as_predicted

pairs_as_predicted(prediction, ours, HARD)
beside_the_paper("mpn-table1", ours, missing["mpn-table1"])

# %% [markdown]
# Columns that begin with *paper* are printed in MPN's Table 1; *ours*: mean ± standard deviation
# over seeds, and in brackets how many seeds. All in percent. A dash: not printed, or not run.
# Tables 2, 3 and 4 stand in the appendix.
#
# ## Rank-1 when the crop is shifted
#
# The question behind all rows is misalignment, and here it is a dial: the person stands 0 to 20 %
# of the height lower in the query's box, everything else stays the same. Stripes of a shifted query
# hold other body parts than stripes of the gallery.
#
# **Predict.** Which row falls most from the left to the right, and which rows keep an order that
# you would expect of all training with body parts?

# %%
CURVES = ["baseline", "baseline-ub", "mt-only", "naive-mtl", "psa", "fsa", "mpn-no-ca", "mpn"]
measured = [s for s in CURVES if s in set(shifted.system)]
if measured:
    title = f"ours: {WHERE}, {PRESET}; band: one sd over seeds"
    figure = plots.rank1_under_shift(shifted, measured, title=title)
else:
    figure = print("no run with shifted queries;", missing["mpn-table1"].command.iloc[0])
figure

# %%
t = shifted[(shifted.metric == "rank1") & shifted.system.isin(measured)]
curve = t.pivot_table(index="system", columns="shift", values="value", sort=False)
change = 100 * curve.sub(curve[0.0], axis=0).drop(columns=0.0)
change.columns = [f"change at {s:.2f}" for s in change]
pd.concat([100 * curve[0.0].rename("Rank-1"), change], axis=1).round(1)

# %% [markdown]
# ## How many parts? (Fig. 7)
#
# More parts are finer, and every part brings its own convs and makes the feature longer. So a row
# with a larger K differs in *two* things. If K does not divide the rows of the map, the map (or the
# region between the boundaries) is resized bilinearly to the next multiple of K, so that all parts
# stay equally high: no row is dropped, and neighbouring parts share the row that their border cuts.
#
# **Predict.** The map of a 384 x 128 image has 24 rows, ours 18, and the paper chose K = 6. Where
# is our peak?

# %%
K = VARIANTS["mpn"].config.num_parts
KS = [e.settings["model.num_parts"] for e in SUITES["mpn-fig7"]]


def swept(k):
    """The system with K = k: its own run, or for the default K the same network, `mpn`."""
    name = f"mpn model.num_parts={k}"
    return name if name in set(ours.system) or k != K else "mpn"


def over_seeds(systems, metric, level, index):
    """Mean, sd (percent) and n of the seeds of each system, a row a name of `index`."""
    rows = ours[(ours.metric == metric) & (ours.level == level)]
    spread = report.mean_spread(rows).set_index("system").reindex(systems)[["mean", "sd", "n"]]
    return spread.mul({"mean": 100, "sd": 100, "n": 1}).set_axis(index)


# %%
sweeps = {
    level: {m: over_seeds([swept(k) for k in KS], m, level, KS) for m in ("mAP", "rank1")}
    for level in LEVELS
}
seeds = sweeps[HARD]["mAP"].n.fillna(0).astype(int)
number = " to ".join(dict.fromkeys((str(seeds.min()), str(seeds.max()))))
title = f"ours: MPN Fig. 7 on {WHERE}, {PRESET}; seeds a point: {number}; bar: one sd"
figures.sweep(sweeps, "mpn", "K, number of parts", title)

# %%
against = [(swept(K), swept(k)) for k in KS if k != K]
sweep = report.ordering(ours, against, "mAP", level=HARD, dataset=WHERE, preset=PRESET)
Markdown(f"**{WHERE}, {HARD}: K = {K} against the others.** " + claims.explain(sweep))

# %% [markdown]
# ## Soft or hard sharing? (Fig. 10)
#
# Hard sharing: one conv serves both tasks. Soft sharing: two convs and a penalty, weight x squared
# distance. Weight 0 is Naive MTL; a very large weight should come close to hard sharing. In the
# paper hard sharing is above every soft weight.
#
# *The penalty takes its own step.* Inside SGD it would multiply the difference d of the two convs
# by 1 - 4 x rate x weight in each step, which grows where that is below -1. So the kit makes an
# implicit step behind each step of SGD (`MPN.proximal_step`): the mean of the two convs stays, and
# d is divided by 1 + 4 x rate x weight. That shrinks at any weight. Its rate is what a steady
# gradient moves a head by, learning rate / (1 - momentum): so d comes to rest where it would inside
# SGD.
#
# *The batch norm changes, too.* With hard sharing the batch norm behind the conv is shared as well;
# with soft sharing each task has its own. So hard minus soft is the effect of both. To see the conv
# alone, train the soft rows with `--set model.share_bn=true`.
#
# **Predict.** At which weight does soft sharing come close to the dashed line of hard sharing?

# %%
WEIGHTS = [0.01, 0.1, 1, 10]
SHARED = {c: ["naive-mtl", *(f"soft-{c}-{w}" for w in WEIGHTS), f"psa-{c}"] for c in ("c1", "c2")}
names = ["0\n(naive)", *map(str, WEIGHTS), "hard"]
soft = {
    f"conv {conv[1]}, {level}": over_seeds(rows, "mAP", level, names)
    for level in LEVELS
    for conv, rows in SHARED.items()
}
title = f"ours: MPN Fig. 10 on {WHERE}, {PRESET}; bar: one sd over seeds; dashed: hard sharing"
figures.soft_against_hard(soft, title)

# %%
fig10 = strong[strong["where"].str.contains("5.3.2")]
Markdown(f"**{WHERE}, {HARD}.** " + claims.explain(fig10))

# %% [markdown]
# The text prints four numbers of Fig. 10: hard sharing of conv 1 minus the *best* soft weight. Ours
# beside them, and the same for conv 2. (The best of four is picked on the test set, here as there,
# which favours soft sharing.)

# %%
printed = report.paper_table("mpn-fig10").set_index(["dataset", "metric"])["value"]
rows = {
    f"paper: {d}, conv 1": printed[d, "mAP difference"] for d in printed.index.unique("dataset")
}
rows |= {f"ours: {n}": t["mean"].iloc[-1] - t["mean"].iloc[1:-1].max() for n, t in soft.items()}
pd.Series(rows, name="hard minus best soft, points of mAP").round(1).to_frame()

# %% [markdown]
# ## Play with it
#
# Two panels belong to this notebook: the *variant comparator* (choose two rows, see which queries
# one wins and the other loses, and the spread over seeds) and the *K sweep* (guess first, then see
# the curve). The comparator opens on the level `strong`, where MPNo leads in the mean; on `mild`
# the stripes are not behind, and it writes both. In [12 the dashboard](12_dashboard.ipynb) both
# panels show larger networks.

# %%
from reidkit.data import load_dataset
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.k_sweep import KSweep
from reidkit.training import obtain_run

ds = load_dataset(root=ROOT, **DATASET)
places = {"runs": RUNS, "shipped": SHIPPED, "preset": PRESET, "seed": SEED}
networks = {n: obtain_run(n, ds, **places) for n in ("mpn-no-ca", "baseline", "ide")}
table = RESULTS if RESULTS.is_file() else RUNS
test = ds.at_level("strong") if "strong" in ds.levels else ds
VariantComparator([networks["mpn-no-ca"], networks["baseline"]], test, table)

# %%
KSweep(networks["ide"], ds, table)

# %% [markdown]
# ## Your turn
#
# Replace `None`, run the cell. It says "not attempted yet" until you try. Worked solutions, for
# afterwards: [solutions/05_solutions](solutions/05_solutions.ipynb).
#
# 1. Three differences over seeds: +1, +2, +3 points. The lower end of the 95 % paired interval?
#    ($t_2 = 4.303$)
# 2. A map of 24 rows, K = 9. How many rows does each part get?
# 3. Which variant has separate convs, no penalty between them, and class-wise alignment? Its name
#    in the kit.

# %%
from exercises import check_exercise

answer_1 = None
answer_2 = None
answer_3 = None

print("1:", check_exercise("05.1", answer_1))
print("2:", check_exercise("05.2", answer_2))
print("3:", check_exercise("05.3", answer_3))

# %% [markdown]
# ## Questionnaire
#
# **1. Two rows have mAP 46.2 ± 1.5 and 46.7 ± 1.4 over three seeds. Is the second one better?**
# <details><summary>answer</summary>These numbers cannot say. The spreads are those of each row;
# what counts is the spread of the differences seed by seed, which may be much smaller or
# not.</details>
#
# **2. A claim is "undecided". What may you write, and what not?**
# <details><summary>answer</summary>That the difference is smaller than what so few seeds can show,
# with its interval. Not that the two are equal, and not that the paper is wrong.</details>
#
# **3. Why is Baseline (UB) called an upper bound, and why can MPN still pass it?**
# <details><summary>answer</summary>Its boxes are corrected in training and at test, so it has no
# detection error left to suffer from. Pose, occlusion and errors of the prior remain, and there
# MPN's main tasks, which look at the whole map, are freer than stripes. In the paper's Table 1
# several rows pass it.</details>
#
# **4. Forty intervals at 95 %. How many leave out zero if nothing differs?**
# <details><summary>answer</summary>About two. A single surprising verdict among forty is weak
# evidence; a pattern (both levels, both metrics, every seed) is strong.</details>
#
# **5. Why does a sweep over K not measure the fineness of the parts alone?**
# <details><summary>answer</summary>With K the number of convs and classifiers and the length of the
# feature grow too. A fair control would keep K times the part's width constant.</details>
#
# ## Summary
#
# A row of an ablation table is one configuration; a difference between rows is a number with an
# interval. Pair by seed, say how many seeds, keep *appears*, *reversed* and *undecided* apart, and
# let the text follow the numbers. Which of the paper's orderings appear here is what the cells
# above computed. Next: [06 Priors from real tools](06_priors_from_real_tools.ipynb); what stayed
# open: [13 Look further](13_look_further.ipynb).
#
# ## Appendix: is a difference more than chance?
#
# Train the same row with another seed and its mAP moves. Variants of *one* seed, though, share the
# initial weights of the trunk, the data and the order of the batches: a lucky seed lifts both. So
# subtract seed by seed, and ask whether the mean of these differences is away from zero.
#
# With differences $d_1 \dots d_n$, mean $\bar d$ and standard deviation $s$, the 95 % interval is
# $\bar d \pm t_{n-1}\, s / \sqrt{n}$. With 3 seeds $t_2 = 4.30$: few seeds are paid for with a wide
# interval.
#
# **Predict.** Two systems, three seeds, mAP 40, 44, 48 and 41, 45.5, 49. The values overlap almost
# entirely. Is the second one better?

# %%
# made up, to calculate with
first, second = (
    np.array([40.0, 44.0, 48.0]),
    np.array([41.0, 45.5, 49.0]),
)
d = second - first
draws = np.random.default_rng(SEED).normal(size=(400_000, 3))
# what t_2 is: simulated
t_2 = np.quantile(np.abs(draws.mean(1) / (draws.std(1, ddof=1) / np.sqrt(3))), 0.95)
half = t_2 * d.std(ddof=1) / np.sqrt(3)

# %%
example = pd.DataFrame(
    [
        ["", s, s, "made-up", "", i, "test", "ours", "step AP", np.nan, "mAP", x / 100, "", "", ""]
        for s, v in (("first", first), ("second", second))
        for i, x in enumerate(v)
    ],
    columns=report.COLUMNS,
)
kit = report.paired_difference(example, "second", "first", "mAP")
print(
    f"by hand {d.mean():+.2f} [{d.mean() - half:+.2f}, {d.mean() + half:+.2f}]  (t_2 simulated: "
    f"{t_2:.2f})"
)
print(
    f"kit     {100 * kit.mean:+.2f} [{100 * kit.low:+.2f}, {100 * kit.high:+.2f}]  (t_2: "
    f"{report.t_quantile(0.95, 2):.2f})"
)
unpaired = report.t_quantile(0.95, 4) * np.sqrt(first.var(ddof=1) / 3 + second.var(ddof=1) / 3)
print(f"not paired: {d.mean():+.2f} [{d.mean() - unpaired:+.2f}, {d.mean() + unpaired:+.2f}]")

# %% [markdown]
# Paired, the interval leaves out zero. Not paired, the spread between the seeds buries the
# difference.
#
# ### The intervals of the claims
#
# Those about Table 1; the number in brackets is the number of seeds that both systems have.

# %%
from lesson import draw_claims, power, tally_orderings

TABLE_1 = strong["where"].str.contains(r"5\.2").to_numpy()
draw_claims(strong[TABLE_1], f"ours: the claims about Table 1, {WHERE} {HARD}")

# %%
mild = checked[LEVELS[0], "mAP"]
draw_claims(mild[TABLE_1], f"ours: the claims about Table 1, {WHERE} {LEVELS[0]}")

# %%
power(strong)

# %% [markdown]
# ### All pairs of each table, and Tables 2, 3 and 4
#
# The text picks its claims. A table holds more orderings: every pair that the paper orders the same
# way on each of its data sets. How many of those do we see?

# %%
tables = ("mpn-table1", "mpn-table2", "mpn-table3", "mpn-table4")
tally_orderings(ours, tables, dataset=WHERE, preset=PRESET)

# %%
beside_the_paper("mpn-table2", ours, missing["mpn-table2"])

# %%
beside_the_paper("mpn-table3", ours, missing["mpn-table3"])

# %%
beside_the_paper("mpn-table4", ours, missing["mpn-table4"])
