"""The template's package for these tests, imported without generating a project."""

from collections.abc import Iterator

import pytest

from ..support.template_package import Part, template_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """Imports a module of the template's package; compiled files stay out of the template."""
    with template_package(tmp_path_factory.mktemp("package"), "package_of_models_tests") as package:
        yield package
