"""`kdam prepare-data`, for `ray job submit -- python jobs/prepare_data.py`."""

from kdam_ray.jobs.prepare_data import main

if __name__ == "__main__":
    raise SystemExit(main())
