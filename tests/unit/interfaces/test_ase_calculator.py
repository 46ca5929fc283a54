"""The calculator keeps every promise that ASE and its users rely on."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    all_properties,
)
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import Trajectory, read
from ase.md.verlet import VelocityVerlet
from numpy.testing import assert_allclose
from torch.utils._python_dispatch import TorchDispatchMode

import ase_pet
from ase_pet import derivatives
from ase_pet.errors import CheckpointError, GeometryError, NeighborError, UnknownSpeciesError
from ase_pet.formats import Model, native
from ase_pet.interfaces.ase_calculator import PETCalculator
from ase_pet.interfaces.ase_structures import evaluate_together, has_volume, system_from_atoms
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from tests.tiny import TENSORS, tiny_modern_pet, tiny_pet, tiny_tensornet

NAMES = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]


def make_model(n_layers: int = 1, rotations: str | None = "atom") -> Model:
    torch.manual_seed(11)
    hypers = PETHypers(
        cutoff=3.2,
        cutoff_width=1.0,
        d_model=8,
        n_heads=2,
        d_feedforward=12,
        n_message_layers=n_layers,
        n_attention_layers=1,
        head_width=6,
    )
    backbone = PET(hypers, (1, 6, 14)).double()
    composition = Composition({1: -13.0, 6: -1000.0, 14: -100.0})
    return Model(Total(backbone, composition), "float64", {"rotations": rotations})


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


@pytest.fixture
def calc(model: Model) -> PETCalculator:
    return PETCalculator(model)


def crystal() -> Atoms:
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=1)
    strain = np.array([[0, 0.02, 0], [0, 0.01, 0], [0.03, 0, 0]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain))
    return atoms


def gas() -> Atoms:
    atoms = molecule("C2H4")
    atoms.rattle(0.05, seed=2)
    return atoms


def test_signature_is_the_documented_one() -> None:
    parameters = inspect.signature(PETCalculator).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert next(iter(parameters)) == "model"
    assert defaults == {
        "device": "auto",
        "dtype": None,
        "symmetry": "O(3)",
        "ensemble": "auto",
        "weights": "auto",
        "neighbors": "auto",
        "skin": 0.5,
        "memory_budget": "2GB",
        "charge": 0.0,
        "spin": 1.0,
        "splines": False,
        "forces": "conservative",
        "compile": False,
        "target": None,
        "uncertainty_threshold": None,
    }
    assert ase_pet.PETCalculator is PETCalculator


def test_all_properties_come_from_one_evaluation(
    calc: PETCalculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, calls = calc.engine, []
    monkeypatch.setattr(calc, "_engine", lambda system: (calls.append(1), engine(system))[1])
    atoms = crystal()
    atoms.calc = calc
    atoms.get_forces()
    for name in NAMES:
        calc.get_property(name, atoms)
    assert calls == [1]
    assert set(calc.results) == set(NAMES) <= set(all_properties)


def test_results_are_float64_and_consistent(calc: PETCalculator) -> None:
    atoms = crystal()
    atoms.calc = calc
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True)
    assert isinstance(calc.results["energy"], float)
    assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), rtol=1e-14)
    assert_allclose(atoms.get_stresses().sum(0), atoms.get_stress(), rtol=0, atol=1e-15)
    shapes = {"energies": (2,), "forces": (2, 3), "stress": (6,), "stresses": (2, 6)}
    for name, shape in shapes.items():
        assert calc.results[name].shape == shape
        assert calc.results[name].dtype == np.float64
    assert atoms.get_stress(voigt=False).shape == (3, 3)


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)", None])
def test_forces_and_stress_are_derivatives(model: Model, symmetry: str | None) -> None:
    atoms = crystal()
    atoms.calc = PETCalculator(model, symmetry=symmetry)
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    assert_allclose(atoms.get_forces(), numerical, rtol=0, atol=1e-6)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert_allclose(atoms.get_stress(), numerical, rtol=0, atol=1e-6)


def test_results_turn_with_the_structure(model: Model) -> None:
    turned = gas()
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned.positions = turned.positions @ matrix.T
    change = {}
    for symmetry in ("O(3)", None):
        first, second = PETCalculator(model, symmetry=symmetry).compute([gas(), turned])
        change[symmetry] = np.abs(first["forces"] @ matrix.T - second["forces"]).max()
    assert change["O(3)"] < 1e-11
    assert change[None] > 1e-3


def test_editing_results_corrupts_nothing(calc: PETCalculator) -> None:
    atoms = crystal()
    atoms.calc = calc
    forces = atoms.get_forces()
    (before,) = calc.compute([atoms])
    for array in (atoms.get_forces(), atoms.get_stress(), before["forces"], before["stresses"]):
        array += 1.0
    assert_allclose(atoms.get_forces(), forces, rtol=0, atol=0)
    atoms.positions[0] += 5.0
    assert calc.get_property("forces", atoms, allow_calculation=False) is None
    atoms.positions[0] -= 5.0
    assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-9)


class Operations(TorchDispatchMode):
    """Names of the operations outside of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.inside = 0

    def leave_out(self, owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count none of those of a function."""
        function = getattr(owner, name)

        def inside(*args: object, **options: object) -> object:
            self.inside += 1
            try:
                return function(*args, **options)
            finally:
                self.inside -= 1

        monkeypatch.setattr(owner, name, inside)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.inside:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_of_dynamics_dispatches_little_around_the_network(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = PETCalculator(model, symmetry=None)
    dynamics = VelocityVerlet(atoms, timestep=units.fs)
    dynamics.run(2)
    watch = Operations()
    watch.leave_out(derivatives, "predict", monkeypatch)
    watch.leave_out(torch.autograd, "grad", monkeypatch)
    with watch:
        dynamics.run(1)
    assert 50 < len(watch.names) <= 90  # 203 with everything checked and formed anew
    assert not [name for name in watch.names if "svd" in name or "nonzero" in name]


def test_changes_are_those_that_ase_finds(calc: PETCalculator) -> None:
    atoms = crystal()
    assert calc.check_state(atoms) == all_changes
    calc.calculate(atoms)
    for change, names in (
        (lambda a: a.positions.__iadd__(1e-9), {"positions"}),
        (lambda a: a.positions[0].__iadd__(2e-16), set()),
        (lambda a: a.positions[0].__imul__(np.nan), {"positions"}),
        (lambda a: a.set_cell(a.cell.array * (1 + 1e-12)), {"cell"}),
        (lambda a: a.set_atomic_numbers(a.numbers[::-1] - 8), {"numbers"}),
        (lambda a: a.set_pbc((True, True, False)), {"pbc"}),
        (lambda a: a.append("H"), {"positions", "numbers"}),
        (lambda a: a.set_initial_charges([1.0, -1.0]), set()),
    ):
        other = atoms.copy()
        change(other)
        assert set(calc.check_state(other)) == set(Calculator.check_state(calc, other)) == names


def test_asking_again_is_cheap(calc: PETCalculator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamics asks for the forces of a step three times."""
    atoms = crystal()
    atoms.calc = calc
    atoms.get_forces()
    slow = "ase.calculators.calculator.compare_atoms"
    monkeypatch.setattr(slow, lambda *_, **__: pytest.fail("compared by ASE"))
    assert calc.check_state(atoms) == []


def test_only_changes_that_matter_are_evaluated(
    calc: PETCalculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = crystal()
    atoms.calc = calc
    atoms.get_potential_energy()
    atoms.set_initial_charges([1.0, -1.0])
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    atoms.set_velocities(np.ones((2, 3)))
    assert not calc.calculation_required(atoms, NAMES)
    for change in ("positions", "numbers", "cell", "pbc"):
        other = atoms.copy()
        if change == "positions":
            other.positions[0, 0] += 1e-9
        elif change == "numbers":
            other.numbers[0] = 6
        elif change == "cell":
            other.cell[0, 0] += 1e-9
        else:
            other.pbc[0] = False
        assert calc.calculation_required(other, ["energy"]), change


def test_setting_an_option_discards_the_results(calc: PETCalculator) -> None:
    atoms = gas()
    atoms.calc = calc
    exact = atoms.get_potential_energy()
    assert calc.set(symmetry="O(3)") == {}
    assert calc.results
    assert calc.set(symmetry=None) == {"symmetry": None}
    assert calc.results == {}
    assert atoms.get_potential_energy() != exact
    with pytest.raises(ValueError, match=r"unknown option.*\['symetry'\].*symmetry"):
        calc.set(symetry="O(3)")
    with pytest.raises(ValueError, match="symmetry"):
        calc.set(symmetry="C3v")
    assert calc.parameters["symmetry"] is None
    assert PETCalculator.discard_results_on_any_change


def test_stress_needs_a_volume_and_nothing_else_does(calc: PETCalculator) -> None:
    atoms = gas()
    atoms.calc = calc
    with pytest.raises(PropertyNotImplementedError, match="three independent vectors"):
        atoms.get_stress()
    forces = atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="three independent vectors"):
        atoms.get_stresses()
    assert "stress" not in calc.results
    assert_allclose(calc.results["forces"], forces)
    atoms.cell = [[5.0, 0, 0], [0, 5.0, 0], [5.0, 5.0, 0]]  # three vectors in a plane
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    assert np.isfinite(atoms.get_potential_energy())
    atoms.cell = [5.0, 5.0, 5.0]
    assert atoms.get_stress().shape == (6,)
    assert PETCalculator.implemented_properties == NAMES


def test_properties_that_it_has_not_are_refused(calc: PETCalculator) -> None:
    atoms = gas()
    atoms.calc = calc
    for ask in (atoms.get_dipole_moment, atoms.get_magnetic_moments, atoms.get_charges):
        with pytest.raises(PropertyNotImplementedError):
            ask()


@pytest.fixture(scope="module", params=[tiny_pet, tiny_tensornet])
def with_tensors(request: pytest.FixtureRequest) -> PETCalculator:
    total = Total(request.param(**TENSORS), Composition({1: -13.0, 6: -1000.0, 8: -2000.0}))
    return PETCalculator(Model(total, "float64"), device="cpu")


def test_a_dipole_and_a_polarizability_where_the_model_has_them(
    with_tensors: PETCalculator,
) -> None:
    atoms = molecule("CH3OH")
    atoms.calc = with_tensors
    dipole, matrix = atoms.get_dipole_moment(), with_tensors.get_polarizability(atoms)
    assert np.linalg.norm(dipole) > 1e-3
    assert_allclose(matrix, matrix.T, rtol=0, atol=0)
    (together,) = with_tensors.compute([atoms])
    assert_allclose(together["dipole"], dipole, atol=1e-13)
    assert_allclose(together["polarizability"], matrix, atol=1e-13)
    assert set(with_tensors.results) <= set(all_properties)  # for SinglePointCalculator(**results)
    matrix[:] = 0.0  # nobody else's
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    again = with_tensors.get_polarizability(atoms)
    atoms.positions = atoms.positions @ turn.T + 3.0
    assert_allclose(atoms.get_dipole_moment(), turn @ dipole, atol=1e-12)
    assert_allclose(with_tensors.get_polarizability(), turn @ again @ turn.T, atol=1e-12)
    restored = pickle.loads(pickle.dumps(with_tensors))
    assert_allclose(restored.get_polarizability(atoms), with_tensors.get_polarizability())
    assert "dipole" in restored.implemented_properties
    assert PETCalculator.implemented_properties == NAMES


@pytest.mark.parametrize("name", ["pet-si", "tensornet-si"])
def test_a_calculator_made_in_inference_mode_has_forces(name: str) -> None:
    atoms = crystal()
    atoms.calc = PETCalculator(name, device="cpu")
    expected = atoms.get_forces()
    with torch.inference_mode():
        atoms.calc = PETCalculator(name, device="cpu")
        assert_allclose(atoms.get_forces(), expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_tensors_are_refused_where_they_mean_nothing(
    with_tensors: PETCalculator, calc: PETCalculator
) -> None:
    boxed = molecule("CH3OH", vacuum=4.0)
    boxed.pbc = True
    boxed.calc = with_tensors
    for ask in (boxed.get_dipole_moment, lambda: with_tensors.get_polarizability(boxed)):
        with pytest.raises(PropertyNotImplementedError, match=r"periodic.*atoms.pbc = False"):
            ask()
    assert np.isfinite(boxed.get_potential_energy())
    assert "dipole" not in with_tensors.results
    assert "dipole" not in with_tensors.compute([boxed])[0]
    with pytest.raises(PropertyNotImplementedError, match="does not predict it"):
        calc.get_polarizability(gas())


def test_constraints_are_left_to_ase(calc: PETCalculator) -> None:
    atoms = gas()
    atoms.calc = calc
    free = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0]))
    assert_allclose(atoms.get_forces()[0], 0.0)
    assert_allclose(calc.results["forces"], free)


def test_a_batch_equals_single_evaluations(calc: PETCalculator) -> None:
    far = crystal()
    far.positions[1] += 3 * far.cell[0]
    structures = [crystal(), gas(), far, Atoms("Si"), bulk("Si", cubic=True)]
    gas_with_calc = gas()
    gas_with_calc.calc = calc
    gas_with_calc.get_potential_energy()
    held = calc.results["forces"].copy()
    for atoms, together in zip(structures, calc.compute(structures), strict=True):
        (alone,) = calc.compute([atoms])
        assert alone.keys() == together.keys()
        assert ("stress" in alone) == bool(atoms.pbc.any())
        for name in alone:
            assert_allclose(together[name], alone[name], rtol=1e-12, atol=1e-12)
    assert_allclose(calc.results["forces"], held, rtol=0, atol=0)
    assert calc.compute([]) == []
    with pytest.raises(TypeError, match=r"expected a list of Atoms.*\[atoms\]"):
        calc.compute(gas())


def test_dynamics_with_a_skin_equals_dynamics_without(model: Model) -> None:
    energies = []
    for skin in (0.0, 0.5):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=3)
        atoms.calc = PETCalculator(model, skin=skin)
        atoms.set_velocities(0.05 * np.random.default_rng(1).normal(size=(8, 3)))
        VelocityVerlet(atoms, 1.0 * units.fs).run(10)
        energies.append(atoms.get_total_energy())
    assert_allclose(energies[0], energies[1], rtol=1e-12)


def test_path_and_model_are_the_same(model: Model, tmp_path: Path) -> None:
    native.save(model, tmp_path / "model.pt")
    energies = [
        PETCalculator(source).compute([gas()])[0]["energy"]
        for source in (model, tmp_path / "model.pt", str(tmp_path / "model.pt"))
    ]
    assert_allclose(energies, energies[0], rtol=1e-14)
    with pytest.raises(CheckpointError, match="no such file"):
        PETCalculator(tmp_path / "other.pt")
    with pytest.raises(
        TypeError, match="model: expected a path, a Model or a list of them, got dict"
    ):
        PETCalculator({})


def test_calculators_of_one_model_do_not_disturb_each_other(model: Model) -> None:
    reference = PETCalculator(model).compute([gas()])[0]["energy"]
    single = PETCalculator(model, dtype="float32")
    assert single.engine.dtype == "float32"
    assert_allclose(single.compute([gas()])[0]["energy"], reference, rtol=0, atol=1e-4)
    assert single.compute([gas()])[0]["forces"].dtype == np.float64
    assert PETCalculator(model, dtype=torch.float32).engine.dtype == "float32"
    assert PETCalculator(model).engine.dtype == "float64"
    assert_allclose(PETCalculator(model).compute([gas()])[0]["energy"], reference, rtol=1e-14)


def test_copies_and_pickles_give_the_same_results(calc: PETCalculator) -> None:
    atoms = gas()
    atoms.calc = calc
    forces = atoms.get_forces()
    weights = sum(p.numel() * 8 for p in calc.model.potential.parameters())
    assert len(pickle.dumps(calc)) < 4 * weights + 40_000
    for other in (pickle.loads(pickle.dumps(calc)), copy.deepcopy(calc), copy.copy(calc)):
        assert other.results.keys() == calc.results.keys()
        assert not other.calculation_required(atoms, ["forces"])
        assert_allclose(other.compute([atoms])[0]["forces"], forces, rtol=0, atol=1e-12)
        assert other.ensemble == "local"
    twin = copy.deepcopy(atoms)
    twin.positions[0, 0] += 0.1
    twin.get_potential_energy()
    assert_allclose(atoms.get_forces(), forces, rtol=0, atol=0)


def test_it_works_in_a_spawned_process(calc: PETCalculator) -> None:
    (here,) = calc.compute([gas()])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.apply(calc.compute, ([gas()],))
    assert_allclose(there["forces"], here["forces"], rtol=0, atol=1e-12)


def test_todict_names_the_checkpoint_and_is_plain(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    native.save(model, path)
    calc = PETCalculator(path, symmetry="SO(3)")
    found = calc.todict()
    assert found["checkpoint"] == str(path)
    assert found["sha256"] == calc.model.sha256
    assert len(found["sha256"]) == 64
    assert found["symmetry"] == "SO(3)"
    assert found["dtype"] == "float64"
    assert json.loads(json.dumps(found)) == found


def test_trajectories_and_databases_take_it(calc: PETCalculator, tmp_path: Path) -> None:
    for k, atoms in enumerate((crystal(), gas())):
        atoms.calc = calc
        atoms.get_potential_energy()
        with Trajectory(tmp_path / f"{k}.traj", "w", atoms) as trajectory:
            trajectory.write()
        assert_allclose(read(tmp_path / f"{k}.traj").get_forces(), atoms.get_forces(), rtol=0)
        database = connect(tmp_path / f"{k}.db")
        database.write(atoms)
        row = database.get(1)
        assert row.calculator == "pet"
        assert row.calculator_parameters["symmetry"] == "O(3)"
        assert row.energy == calc.results["energy"]


@pytest.mark.parametrize(
    ("n_layers", "rotations", "cell", "gas_phase"),
    [
        (1, "atom", "local", "local"),
        (1, None, "local", "local"),
        (1, "structure", "local", "shared"),
        (2, "atom", "shared", "shared"),
    ],
)
def test_ensemble_says_what_was_chosen(
    n_layers: int, rotations: str, cell: str, gas_phase: str
) -> None:
    calc = PETCalculator(make_model(n_layers, rotations))
    assert calc.ensemble == (cell if cell == gas_phase else "auto")
    for atoms, chosen in ((crystal(), cell), (gas(), gas_phase)):
        calc.calculate(atoms)
        assert calc.ensemble == chosen
        (explicit,) = PETCalculator(calc.model, ensemble=chosen).compute([atoms])
        assert_allclose(calc.results["energy"], explicit["energy"], rtol=1e-13)
    assert PETCalculator(calc.model, symmetry=None).ensemble is None
    assert PETCalculator(calc.model, ensemble="global").ensemble == "global"


def test_unknown_elements_are_refused_when_attached_and_computed(calc: PETCalculator) -> None:
    atoms = molecule("H2O")
    message = "does not know O; it was trained on H, C, Si"
    with pytest.raises(UnknownSpeciesError, match=message):
        atoms.calc = calc
    with pytest.raises(UnknownSpeciesError, match=message):
        atoms.get_potential_energy()
    with pytest.raises(UnknownSpeciesError, match=message):
        calc.compute([gas(), atoms])
    known = gas()
    known.calc = calc
    known.numbers[0] = 92
    with pytest.raises(UnknownSpeciesError, match="does not know U;"):
        known.get_potential_energy()
    known.numbers[0] = 6
    assert np.isfinite(known.get_potential_energy())


def broken(kind: str) -> Atoms:
    atoms = crystal()
    if kind == "empty":
        return Atoms()
    if kind == "nan":
        atoms.positions[1, 2] = np.nan
    elif kind == "infinite":
        atoms.positions[1, 2] = np.inf
    elif kind == "flat":
        atoms.cell[2] = atoms.cell[0]
    elif kind == "coincident":
        atoms.positions[1] = atoms.positions[0] + 1e-8
    elif kind == "image":
        atoms.positions[1] = atoms.positions[0] + atoms.cell[1]
    elif kind == "cell":
        atoms.cell[0, 0] = np.nan
    return atoms


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "^no atoms"),
        ("nan", "^positions: atom 1 is at .*not finite"),
        ("infinite", "^positions: atom 1 is at .*not finite"),
        ("flat", "zero volume"),
        ("coincident", r"atoms 0 and 1 \(Si, Si\) are .* apart"),
        ("image", "atoms 0 and 1.*periodic image"),
        ("cell", "cell: not finite"),
    ],
)
def test_impossible_structures_are_refused(calc: PETCalculator, kind: str, message: str) -> None:
    atoms = broken(kind)
    atoms.calc = calc
    with pytest.raises(GeometryError, match=message):
        atoms.get_potential_energy()
    assert calc.results == {}
    with pytest.raises(GeometryError, match=message):
        calc.compute([atoms])
    good = crystal()
    good.calc = calc
    assert np.isfinite(good.get_forces()).all()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("device", "gpu", "device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ("device", "cuda:99", "device: 'cuda:99' asked for, but"),
        ("dtype", "float16", "dtype: expected 'float32' or 'float64', got 'float16'"),
        ("dtype", torch.bfloat16, "dtype: expected.*got 'bfloat16'"),
        ("symmetry", "O3", r"symmetry: expected one of.*O\(3\).*SO\(3\).*None.*got 'O3'"),
        ("ensemble", "all", "ensemble: expected one of.*local.*global.*auto.*got 'all'"),
        ("weights", "rough", "weights: expected one of 'auto', 'smooth', .* got 'rough'"),
        ("skin", -1.0, "skin: expected.*got -1.0"),
        ("skin", float("nan"), "skin: expected"),
        ("skin", "a", "skin: expected.*got 'a'"),
        ("skin", None, "skin: expected.*got None"),
        ("memory_budget", "lots", "memory_budget: expected.*got 'lots'"),
        ("memory_budget", 0, "memory_budget: expected"),
        ("memory_budget", -5, "memory_budget: expected"),
    ],
)
def test_wrong_options_list_the_choices(
    model: Model, option: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PETCalculator(model, **{option: value})


def test_an_unknown_neighbour_search_lists_the_choices(model: Model) -> None:
    with pytest.raises(ValueError, match=r"neighbors: .*vesin.*got 'kdtree'"):
        PETCalculator(model, neighbors="kdtree")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_results(model: Model) -> None:
    structures = [crystal(), gas(), bulk("Si", cubic=True)]
    pairs = zip(
        PETCalculator(model, device="cpu").compute(structures),
        pickle.loads(pickle.dumps(PETCalculator(model, device="cuda"))).compute(structures),
        strict=True,
    )
    for there, here in pairs:
        for name in there:
            assert_allclose(here[name], there[name], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("budget", ["2GB", "500 MB", "1.5gb", 10**8, "1e", "20000000"])
def test_memory_budgets(model: Model, budget: object) -> None:
    if budget == "1e":
        with pytest.raises(ValueError, match="memory_budget"):
            PETCalculator(model, memory_budget=budget)
    else:
        assert np.isfinite(PETCalculator(model, memory_budget=budget).compute([gas()])[0]["energy"])


def test_without_any_structure_it_says_so(calc: PETCalculator) -> None:
    with pytest.raises(ValueError, match="none given"):
        calc.calculate()


def test_results_of_one_structure_never_pass_for_those_of_another(calc: PETCalculator) -> None:
    calc.calculate(crystal())
    bad = broken("coincident")
    with pytest.raises(GeometryError):
        calc.calculate(bad)
    bad.calc = calc
    with pytest.raises(GeometryError):
        bad.get_potential_energy()


@pytest.mark.parametrize("wrong", [None, "a", 3])
def test_what_is_no_structure_is_refused(calc: PETCalculator, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"structures: expected ase\.Atoms, got"):
        calc.compute([crystal(), wrong])


def test_the_structure_at_fault_is_named(calc: PETCalculator) -> None:
    frames = [crystal(), broken("coincident"), gas()]
    with pytest.raises(GeometryError, match=r"^frame 8: positions: atoms 0 and 1"):
        evaluate_together(calc.compute, frames, lambda k: f"frame {k + 7}")
    frames[1] = crystal()
    assert len(evaluate_together(calc.compute, frames, str)) == 3

    def too_much(structures: list[Atoms]) -> None:
        if len(structures) > 1:
            raise NeighborError("no memory")

    with pytest.raises(NeighborError, match=r"^no memory$"):
        evaluate_together(too_much, frames, str)


@pytest.mark.parametrize(("rotations", "chosen"), [(None, "local"), ("structure", "shared")])
def test_atoms_of_unknown_training_count_as_invariant(rotations: str | None, chosen: str) -> None:
    calc = PETCalculator(make_model(rotations=rotations))
    calc.compute([gas()])
    calc.calculate(gas())
    assert calc.ensemble == chosen


def test_system_from_atoms_shares_nothing() -> None:
    first, second = crystal(), gas()
    system = system_from_atoms([first, second])
    assert system.n_systems == 2
    assert system.system_index.tolist() == [0] * 2 + [1] * 6
    assert_allclose(system.cell[0], first.cell.array)
    assert system.pbc.tolist() == [[True] * 3, [False] * 3]
    before = system.positions.clone()
    first.positions += 1.0
    assert torch.equal(system.positions, before)
    with pytest.raises(ValueError, match="at least one"):
        system_from_atoms([])
    with pytest.raises(TypeError, match=r"expected ase\.Atoms, got str"):
        system_from_atoms(["Si"])
    second.positions[3] = np.nan
    with pytest.raises(GeometryError, match="structure 1: positions: atom 3 is at"):
        system_from_atoms([first, second])


@pytest.mark.parametrize(
    ("cell", "volume"),
    [
        ([4, 4, 4], True),
        ([4, 4, 0], False),
        ([[4, 0, 0], [0, 4, 0], [0, 4, 1e-13]], False),
        ([[1e-3, 0, 0], [0, 1e-3, 0], [0, 0, 1e-3]], True),
    ],
)
def test_a_flat_cell_has_no_volume(cell: list, volume: bool) -> None:
    assert has_volume(Atoms("Si", cell=cell)) is volume


def test_atoms_of_ase_4_are_taken(calc: PETCalculator) -> None:
    atoms4 = pytest.importorskip("ase._4.atoms", reason="this ASE has no preview of version 4")
    adaptor = pytest.importorskip("ase._4.calculators.calculator").Version4Adaptor
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=1)

    class PET4(adaptor):
        wrapped_class = staticmethod(lambda: calc)

    found = PET4().evaluate(atoms4.Atoms.from_v3atoms(atoms), ["energy", "forces", "stress"])
    atoms.calc = PETCalculator(calc.model)
    assert_allclose(found.properties["forces"], atoms.get_forces(), rtol=0, atol=1e-12)
    assert_allclose(found.properties["stress"], atoms.get_stress(), rtol=0, atol=1e-12)


def charged_calculator(**options) -> PETCalculator:
    potential = Total(tiny_modern_pet(conditioning=True, max_charge=2, max_spin=3))
    return PETCalculator(Model(potential, "float64"), symmetry=None, **options)


def test_charge_and_spin_of_the_structure_go_before_the_options() -> None:
    atoms = molecule("CH3OH")
    atoms.calc = charged_calculator()
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    cation = atoms.get_potential_energy()  # computed again
    atoms.info["spin"] = np.int64(2)
    doublet = atoms.get_potential_energy()
    assert len({neutral, cation, doublet}) == 3
    atoms.info |= {"spin": 1, "spin_multiplicity": 2}  # metatomic's name goes before
    assert atoms.get_potential_energy() == pytest.approx(doublet, rel=1e-14)
    atoms.calc = charged_calculator(charge=-1.0, spin=3.0)
    assert atoms.get_potential_energy() == pytest.approx(doublet, rel=1e-14)
    atoms.info.clear()
    triplet = atoms.get_potential_energy()
    atoms.calc = charged_calculator()
    assert atoms.get_potential_energy() == pytest.approx(neutral, rel=1e-14)
    atoms.calc.set(charge=-1.0, spin=3.0)
    assert atoms.get_potential_energy() == pytest.approx(triplet, rel=1e-14)


def test_charges_of_a_batch_are_those_of_its_structures() -> None:
    structures = [molecule("CH3OH"), molecule("H2O"), molecule("CH4")]
    for k, atoms in enumerate(structures):
        atoms.info |= {"charge": k - 1, "spin": k + 1}
    calculator = charged_calculator()
    batch = calculator.compute(structures)
    for atoms, found in zip(structures, batch, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(found["energy"], rel=1e-13)


def test_other_entries_of_info_change_nothing(calc: PETCalculator) -> None:
    atoms = crystal()
    atoms.calc = calc
    atoms.get_potential_energy()
    atoms.info |= {"note": "annealed", "charge": 0, "spin": 1}
    assert calc.check_state(atoms) == []


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 3}, "charge: .* whole numbers from -2 to 2, got 3"),
        ({"charge": 0.5}, "charge: .* whole numbers from -2 to 2, got 0.5"),
        ({"spin": 4}, "spin: .* whole numbers from 1 to 3, got 4"),
        ({"spin": 0}, "spin: expected a multiplicity"),
        ({"spin_multiplicity": 4}, "spin: .* whole numbers from 1 to 3, got 4"),
        ({"charge": "one"}, r"atoms.info\['charge'\]: expected a number, got 'one'"),
    ],
)
def test_a_charge_beyond_the_table_is_told(info: dict, message: str) -> None:
    atoms = molecule("H2O")
    atoms.info |= info
    atoms.calc = charged_calculator()
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


def test_a_charge_is_refused_where_it_means_nothing(calc: PETCalculator) -> None:
    atoms = crystal()
    atoms.info["charge"] = 1
    atoms.calc = calc
    with pytest.raises(ValueError, match="charge: the model was trained without"):
        atoms.get_potential_energy()
