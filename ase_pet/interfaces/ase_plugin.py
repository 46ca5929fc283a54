"""What ASE finds of this package: the calculator ``pet``.

The entry point of ``ase.plugins`` names this module, and ``ase info --plugins`` lists what is in
it; nothing of the calculator is imported for that. ASE 3's ``get_calculator_class`` and ``ase run``
know only what was registered before, and do so from the import of ``PETCalculator`` on:

    python -m ase_pet.interfaces.ase_plugin run pet si.cif -p model=pet-si

is ``ase run`` with the calculator registered.
"""

from __future__ import annotations

from typing import TypeVar

from ase.calculators.calculator import external_calculators, register_calculator_class

Class = TypeVar("Class", bound=type)

#: Of the calculator, in ASE's commands, databases and trajectories.
NAME = "pet"
#: Of the ensemble of coordinate systems and of the network.
CITATION = "S. N. Pozdnyakov and M. Ceriotti, NeurIPS 36, 79469 (2023), arXiv:2305.19302"

try:  # ASE 3.29 tries its plugins out in a private place
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:
    __ase_plugins__ = set()
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            NAME,
            citation=CITATION,
            implementation="ase_pet.interfaces.ase_calculator.PETCalculator",
        )
    }


def registered(cls: Class) -> Class:
    """Make a calculator class known to ``ase.calculators.calculator.get_calculator_class``."""
    if NAME not in external_calculators:  # it is there when a module is loaded again
        register_calculator_class(NAME, cls)
    return cls


def main() -> None:
    """Run ASE's command line with the calculator ``pet`` registered."""
    from ase.cli.main import main as ase

    from ase_pet.interfaces import ase_calculator  # noqa: F401, which registers it

    ase()


if __name__ == "__main__":
    main()
