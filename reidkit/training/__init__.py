"""Recipes, the training loop, runs on disk, ablation suites."""

from reidkit.training.evaluate import evaluate_model, evaluate_run
from reidkit.training.ide import run_name
from reidkit.training.loop import train
from reidkit.training.obtain import obtain_run
from reidkit.training.recipes import PRESETS, Recipe, recipe_for
from reidkit.training.runs import RunFolder, load_run
from reidkit.training.suites import SUITES, run_suite, suite

__all__ = [
    "PRESETS",
    "SUITES",
    "Recipe",
    "RunFolder",
    "evaluate_model",
    "evaluate_run",
    "load_run",
    "obtain_run",
    "recipe_for",
    "run_name",
    "run_suite",
    "suite",
    "train",
]
