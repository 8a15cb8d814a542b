"""Scores that read target labels: their names, and which may be looked at after all is chosen.

Named here without anything heavy, so that a command line can refuse them at once; they are made in
`gsda.oracle`.
"""

PREFIX = "oracle/"
ACCURACY, CLASS_MEAN = f"{PREFIX}target_accuracy", f"{PREFIX}target_class_mean"
