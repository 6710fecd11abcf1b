"""HAMi in tests: the real one where it can be had, a stand-in of our own elsewhere, one contract for both."""
