import pytest
from running import parts
from shell import free_port

from pgrun.errors import UserError
from pgrun.parallel.ray import connection as cluster


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:{port}", "no Ray answers there"),
        ("somewhere", "is no address: give HOST:PORT"),
        (6379, "is no address: give HOST:PORT"),
    ],
)
def test_an_address_where_no_ray_is_is_told_at_once(address, says):
    address = address.format(port=free_port()) if isinstance(address, str) else address
    with pytest.raises(UserError, match=f"where={address}.*{says}"):
        cluster.connect(address, None, "where")


def test_a_run_on_a_cluster_that_is_not_there_is_refused_before_it_writes():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"parallel.address={address}: no Ray answers there"):
        parts("algo=dppo", "env=cartpole", f"parallel.address={address}")
