"""SimCLR; delete this file together with `models/simclr/`."""

from model_checks import ModelChecks


class TestSimCLR(ModelChecks):
    """The loss of a batch has a lower bound above zero, which depends on its size."""

    config = ("experiment=digits_simclr",)
    overfit_to = 0.9
