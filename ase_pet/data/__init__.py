"""What flows between the layers: System -> Edges, Graph -> Results."""

from ase_pet.data.graph import Edges, Graph
from ase_pet.data.ragged import lengthen, run_index
from ase_pet.data.results import Results
from ase_pet.data.space import Space
from ase_pet.data.system import System

__all__ = ["Edges", "Graph", "Results", "Space", "System", "lengthen", "run_index"]
