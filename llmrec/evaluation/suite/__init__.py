"""A whole comparison in one file: language models, baselines and CTR models on the same tasks, cell by cell, each kept."""
