"""`kdam export`, for `ray job submit -- python jobs/export.py`."""

from kdam_ray.jobs.export import main

if __name__ == "__main__":
    raise SystemExit(main())
