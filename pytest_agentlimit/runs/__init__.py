"""Records of a run, its journal, its summary and its gate."""
