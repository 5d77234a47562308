"""From one command to a paper's table: what it will cost, the trainings here or on Slurm, the report, and a page."""

from reidkit.reproduce.order import Order, Prospect, in_words, look_ahead
from reidkit.reproduce.run import Outcome, carry_out
from reidkit.reproduce.slurm import Resources

__all__ = ["Order", "Outcome", "Prospect", "Resources", "carry_out", "in_words", "look_ahead"]
