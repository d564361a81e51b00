"""What runs will cost and have cost: operations, time, energy."""
