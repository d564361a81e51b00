"""`kdam study-gain`, for `ray job submit -- python jobs/study_gain.py`."""

from kdam_ray.jobs.study_gain import main

if __name__ == "__main__":
    raise SystemExit(main())
