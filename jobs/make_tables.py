"""`kdam tables`, for `ray job submit -- python jobs/make_tables.py`."""

from kdam_ray.jobs.make_tables import main

if __name__ == "__main__":
    raise SystemExit(main())
