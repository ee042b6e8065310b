"""Kernel predictors as scikit-learn estimators."""

from gramian.predict.estimators import NTKClassifier, NTKRegressor

__all__ = ["NTKClassifier", "NTKRegressor"]
