"""Memory that tensors give back stays with the process."""

import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from pgrun.system.allocator import keep_freed_memory

def faults():
    torch.ones(250_000)  # 1 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        a, b = torch.ones(250_000), torch.ones(250_000)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
print(before, faults() if keep_freed_memory() else 0)
"""


@pytest.mark.slow
def test_tensors_made_again_cause_no_page_faults():
    said = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    handed_back, kept = (int(word) for word in said.split())
    assert kept < 2_000
    assert kept == 0 or kept < handed_back / 10
