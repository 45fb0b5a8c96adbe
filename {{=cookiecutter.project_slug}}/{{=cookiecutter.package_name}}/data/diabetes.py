"""Progression of diabetes within a year, included in scikit-learn."""

import numpy as np
from sklearn.datasets import load_diabetes

from workbench.data.tables import TableArrays, TableDataModule


class DiabetesDataModule(TableDataModule):
    """442 patients with ten measurements; the target is the progression after a year (25..346).

    The measurements are in their own units (age in years, bmi in kg/m2 ...). Efron et al. 2004,
    https://hastie.su.domains/Papers/LARS/LeastAngle_2002.pdf

    The arguments are those of `BaseDataModule`.
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
