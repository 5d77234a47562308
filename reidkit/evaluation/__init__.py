"""Feature extraction, ranking metrics, re-ranking."""

from reidkit.evaluation.extract import Extraction
from reidkit.evaluation.features import extract_features
from reidkit.evaluation.forms import RELEASED, TestForm
from reidkit.evaluation.multi_query import pool_queries
from reidkit.evaluation.protocol import queries_without_match
from reidkit.evaluation.ranked_list import rank, top_k
from reidkit.evaluation.ranking import RankingResult, average_precision, evaluate_distance, evaluate_ranking
from reidkit.evaluation.reranking import rerank

__all__ = [
    "RELEASED",
    "Extraction",
    "RankingResult",
    "TestForm",
    "average_precision",
    "evaluate_distance",
    "evaluate_ranking",
    "extract_features",
    "pool_queries",
    "queries_without_match",
    "rank",
    "rerank",
    "top_k",
]
