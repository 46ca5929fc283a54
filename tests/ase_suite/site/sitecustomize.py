"""Python imports this at start-up in each process that a test starts."""

from tests.ase_suite import replacement

replacement.install()
