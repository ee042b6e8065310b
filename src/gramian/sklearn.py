"""The scikit-learn estimators, under the name that tells whose interface they have."""

from gramian.predict import NTKClassifier, NTKRegressor

__all__ = ["NTKClassifier", "NTKRegressor"]
