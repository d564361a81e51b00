"""Where images and labels come from, how they are augmented, and how they become batches."""
