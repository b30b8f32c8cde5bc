"""Measure a model: perplexity and KL divergence (`metrics`), and one ruler for every compressed model (`ruler`)."""
