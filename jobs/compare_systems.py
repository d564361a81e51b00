"""`kdam compare-systems`, for `ray job submit -- python jobs/compare_systems.py`."""

from kdam_ray.jobs.compare_systems import main

if __name__ == "__main__":
    raise SystemExit(main())
