"""A misspelt argument of an algorithm is refused: `**common` ends at a base class that takes no more."""

import pytest
from hydra.utils import instantiate
from recipes import SAMPLED
from running import compose

from pgrun.config.resolve import resolved


@pytest.mark.parametrize("algo", SAMPLED)
def test_an_argument_that_no_constructor_takes(algo: str) -> None:
    algorithm = instantiate(resolved(compose(f"algo={algo}")).algo, _convert_="all")
    algorithm.keywords.pop("init_from", None)  # the run's alone
    with pytest.raises(TypeError, match=r"\.__init__\(\) got an unexpected keyword argument 'gama'") as refused:
        algorithm(gama=0.9)
    assert str(refused.value).partition(".")[0] in {base.__name__ for base in algorithm.func.__mro__}
