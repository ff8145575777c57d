"""The age of a process."""

import subprocess
import sys

from pgrun.system.age import process_age


def test_a_process_ages():
    code = "import time; from pgrun.system.age import process_age as age; a = age(); time.sleep(0.2); print(a, age())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    young, older = map(float, said.split())
    assert 0.0 < young < older < process_age() + 60
    assert older - young >= 0.19
