"""What is done with finished runs: pictures, predictions, scores on the test split, chosen contexts."""
