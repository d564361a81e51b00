"""`kdam train-teacher`, for `ray job submit -- python jobs/train_teacher.py`."""

from kdam_ray.jobs.train_teacher import main

if __name__ == "__main__":
    raise SystemExit(main())
