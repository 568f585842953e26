"""Read training samples: data files in the reference's formats, as batches for the models.

    with TrainingData(config, stage="grounding", samples=samples, seed=0) as data:
        for batch in data.batches(first=0, last=100, rank=0, world_size=1, batch_size=1):
            features = initial.encode(batch.examples)

A sample follows from the data file, the config, the seed and its place in the run alone.
"""

from train.data.loader import Batch, TrainingData
from train.data.reader import Unreadable

__all__ = ["Batch", "TrainingData", "Unreadable"]
