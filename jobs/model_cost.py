"""`kdam model-cost`, for `ray job submit -- python jobs/model_cost.py`."""

from kdam_ray.jobs.model_cost import main

if __name__ == "__main__":
    raise SystemExit(main())
