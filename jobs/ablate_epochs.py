"""`kdam ablate-epochs`, for `ray job submit -- python jobs/ablate_epochs.py`."""

from kdam_ray.jobs.ablate_epochs import main

if __name__ == "__main__":
    raise SystemExit(main())
