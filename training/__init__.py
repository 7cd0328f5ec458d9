"""Training, evaluation and transfer of the zoo's networks."""
