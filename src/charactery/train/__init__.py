"""Training: losses and trainers on TRL and PEFT."""
