"""`kdam predict`, for `ray job submit -- python jobs/predict.py`."""

from kdam_ray.jobs.predict import main

if __name__ == "__main__":
    raise SystemExit(main())
