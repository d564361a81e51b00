"""`kdam train-student`, for `ray job submit -- python jobs/train_student.py`."""

from kdam_ray.jobs.train_student import main

if __name__ == "__main__":
    raise SystemExit(main())
