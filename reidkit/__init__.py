"""reidkit: part-aware person re-identification, from two papers to numbered notebooks."""

from reidkit.errors import CheckpointError, DatasetError, PriorError, ReIDKitError, TrainingError

__version__ = "0.1.0"
__all__ = ["CheckpointError", "DatasetError", "PriorError", "ReIDKitError", "TrainingError", "__version__"]
