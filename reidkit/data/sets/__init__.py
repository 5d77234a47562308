"""Parsers, one a data set: a folder on disk becomes a `ReIDDataset`. `published` holds the published counts."""
