"""A dataset as Parquet shards and the manifest that lists them: what one file writes the others read."""
