"""Sweeps as a service: Ray Train workers under Ray Tune, an Optuna study, MLflow records, files or S3 underneath."""
