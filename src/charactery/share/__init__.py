"""What is handed to others: a talk as one file, a character as a bundle, a model with its adapter merged."""
