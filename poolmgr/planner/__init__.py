"""Pure decisions: a snapshot in, a plan out. No IO, no clock, no randomness."""
