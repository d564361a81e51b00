"""What to try next: the Optuna study and what its parameters mattered; the only room that imports Optuna."""
