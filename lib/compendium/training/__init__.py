"""Training: a run's folder, and the learners that go on in it."""
