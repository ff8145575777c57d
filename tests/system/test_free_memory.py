"""Free memory is as much as the tightest limit leaves."""

import pytest
import torch

from pgrun.system import free_memory as room
from pgrun.system.free_memory import free_memory, shown

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of files: write(path, text)."""
    monkeypatch.setattr(room, "ROOT", tmp_path)

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    return write


def test_without_control_groups_what_is_available(machine):
    assert free_memory(CPU) == 5000 * 1024
    machine("proc/self/cgroup", "0::/a\n")  # a group without limits
    assert free_memory(CPU) == 5000 * 1024


def test_the_tightest_of_the_groups_and_its_parents(machine):
    machine("proc/self/cgroup", "0::/a/b\n")
    for group, limit in (("a/b", "max"), ("a", "1000000"), ("", "3000000")):
        machine(f"sys/fs/cgroup/{group}/memory.max", f"{limit}\n")
        machine(f"sys/fs/cgroup/{group}/memory.current", "600000\n")
    assert free_memory(CPU) == 400000
    machine("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 50000\n")
    assert free_memory(CPU) == 450000  # the page cache is given back
    machine("sys/fs/cgroup/a/b/memory.max", "500000\n")
    assert free_memory(CPU) == 0


def test_version_1(machine):
    machine("proc/self/cgroup", "3:cpu:/x\n2:memory,hugetlb:/x\n")
    machine("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "700000\n")
    machine("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "600000\n")
    machine("sys/fs/cgroup/memory/x/memory.stat", "total_inactive_file 1000\n")
    assert free_memory(CPU) == 101000


def test_a_group_of_a_container_that_sees_only_its_own_root(machine):
    machine("proc/self/cgroup", "0::/kube/pod\n")  # not there, inside
    machine("sys/fs/cgroup/memory.max", "2000000\n")
    machine("sys/fs/cgroup/memory.current", "500000\n")
    assert free_memory(CPU) == 1500000


def test_this_machine_has_some():
    assert 10**7 < free_memory(CPU) < 10**15
    assert free_memory(torch.device("meta")) is None


@pytest.mark.parametrize(
    ("size", "words"),
    [(592, "592 bytes"), (5300, "5.3 kB"), (51e6, "51 MB"), (999.7e6, "1 GB"), (2.34e9, "2.3 GB"), (4e15, "4000 TB")],
)
def test_bytes_in_words(size, words):
    assert shown(size) == words
