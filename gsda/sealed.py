"""Names of what target labels say of a model: it is told (`gsda.oracle`), and chosen by nobody."""

PREFIX = "oracle/"
ACCURACY, CLASS_MEAN = f"{PREFIX}target_accuracy", f"{PREFIX}target_class_mean"
OF_CLASS = f"{PREFIX}class/"  # before the name of a class
PRECISION = f"{PREFIX}pseudo_precision"
