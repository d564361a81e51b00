"""What a person does, one file a command of `kdam`."""
