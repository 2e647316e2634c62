"""The neutral conversation and one codec per dialect; no I/O."""
