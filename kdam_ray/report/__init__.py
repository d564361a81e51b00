"""Tables of results, ours beside the paper's, from what MLflow recorded."""
