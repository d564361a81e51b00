"""`kdam search-contexts`, for `ray job submit -- python jobs/search_contexts.py`."""

from kdam_ray.jobs.search_contexts import main

if __name__ == "__main__":
    raise SystemExit(main())
