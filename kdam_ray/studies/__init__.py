"""What to train for a table of the paper or for a study, and its training; reading and drawing are `report`'s."""
