"""What the tests of both formats compare."""

import pytest
from support import export_cases as cases

from rpn_jax import RPNOutput, export, propose


@pytest.fixture(scope="session")
def program():
    return export.core_program(
        cases.ANCHORS, cases.SHAPES, cases.IMAGE, config=cases.RULES
    )


@pytest.fixture(scope="session")
def expected():
    """What the library proposes in the 1,000 cases."""
    *predictions, sizes = cases.make_cases()
    return propose(RPNOutput(*predictions), cases.GRID, sizes, config=cases.RULES)
