"""`kdam distill-decoders`, for `ray job submit -- python jobs/distill_decoders.py`."""

from kdam_ray.jobs.distill_decoders import main

if __name__ == "__main__":
    raise SystemExit(main())
