"""Progression of diabetes within a year, embedded in scikit-learn."""

import numpy as np
from sklearn.datasets import load_diabetes

from workbench.data.table_arrays import TableArrays, TableDataModule


class DiabetesDataModule(TableDataModule):
    """442 patients, ten measurements each, and how far the disease went within one year (25..346).

    The measurements are in their own units (age in years, bmi in kg/m2 ...). Efron et al. 2004,
    https://hastie.su.domains/Papers/LARS/LeastAngle_2002.pdf

    Args:
        batch_size: samples in a batch.
        val_fraction: share of all samples for validation; with `folds`, of the other folds'.
        test_fraction: share of all samples for the test; unused with `folds`.
        split_seed: fixes the parts, whatever the run's seed.
        folds: number of folds of a cross-validation; null for a single split.
        fold: the fold to test on, counted from 0; null lets train.py train all of them.
    """

    def __init__(
        self,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        split_seed: int = 42,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def read(self) -> TableArrays:
        """All patients."""
        diabetes = load_diabetes(scaled=False)
        columns = {
            name: diabetes.data[:, place].astype(np.float64)
            for place, name in enumerate(diabetes.feature_names)
        }
        return TableArrays(columns, diabetes.target, target_name="progression")
