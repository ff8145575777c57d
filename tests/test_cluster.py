import pytest
from shell import free_port

from pgrun import cluster
from pgrun.errors import UserError


@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:{port}", "no Ray answers there"), ("somewhere", "is no address: give HOST:PORT")],
)
def test_an_address_where_no_ray_is_is_told_at_once(address, says):
    address = address.format(port=free_port())
    with pytest.raises(UserError, match=f"where={address}.*{says}"):
        cluster.connect(address, None, "where")
