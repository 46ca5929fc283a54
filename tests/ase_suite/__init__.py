"""ASE's own test-suite, run with its EMT potential replaced by ``checkpoints/pet-emt.pt``.

    python -m tests.ase_suite          # or: make test-ase

``scan`` finds the tests, ``run`` runs them twice in processes of their own, with the real EMT and
with PETCalculator in its place (``plugin``, ``replacement``), and ``report`` compares the two and
explains each failure from ``expected_failures.txt``.
"""
