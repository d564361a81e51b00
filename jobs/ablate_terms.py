"""`kdam ablate-terms`, for `ray job submit -- python jobs/ablate_terms.py`."""

from kdam_ray.jobs.ablate_terms import main

if __name__ == "__main__":
    raise SystemExit(main())
