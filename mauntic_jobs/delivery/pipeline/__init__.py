"""Way of one message from its job to the decision about the job."""
