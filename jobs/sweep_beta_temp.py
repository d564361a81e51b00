"""`kdam sweep-beta-temp`, for `ray job submit -- python jobs/sweep_beta_temp.py`."""

from kdam_ray.jobs.sweep_beta_temp import main

if __name__ == "__main__":
    raise SystemExit(main())
