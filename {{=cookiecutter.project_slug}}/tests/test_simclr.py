"""SimCLR learns and can be read back; delete this file together with the model."""

from model_checks import ModelChecks


class TestSimCLR(ModelChecks):
    """The loss of a batch has a lower bound above zero, which depends on its size."""

    config = ("experiment=digits_simclr",)
    overfit_to = 0.9
