"""Kernel predictors as scikit-learn estimators, and with what they know of their data as pipelines."""

from gramian.predict.estimators import NTKClassifier, NTKRegressor
from gramian.predict.model import Rows, fit
from gramian.predict.tangent_features import TangentFeatureRegressor

__all__ = ["NTKClassifier", "NTKRegressor", "Rows", "TangentFeatureRegressor", "fit"]
