"""Marks for tests of compiled code, which needs a compiler on the machine."""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
