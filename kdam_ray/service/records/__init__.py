"""What is kept of runs: records in MLflow, checkpoints, weight files and shards in a folder or under s3://."""
