"""`kdam score`, for `ray job submit -- python jobs/score_predictions.py`."""

from kdam_ray.jobs.score_predictions import main

if __name__ == "__main__":
    raise SystemExit(main())
