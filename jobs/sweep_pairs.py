"""`kdam sweep-pairs`, for `ray job submit -- python jobs/sweep_pairs.py`."""

from kdam_ray.jobs.sweep_pairs import main

if __name__ == "__main__":
    raise SystemExit(main())
