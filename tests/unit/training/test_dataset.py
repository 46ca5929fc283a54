import lzma

import ase
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_pet.errors import GeometryError
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.training.batches import collate, group_batches, make_samples, require_labels
from ase_pet.training.config import DataConfig, SourceConfig
from ase_pet.training.dataset import (
    fit_composition,
    read_frames,
    select,
    split_frames,
    tensor_labels,
)


def labelled(symbols, energy, forces=None, **kwargs):
    atoms = ase.Atoms(symbols, **kwargs)
    forces = np.zeros((len(atoms), 3)) if forces is None else forces
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def source(path, **where):
    return SourceConfig(path=[path], where=where)


def test_plain_and_compressed_files_are_the_same(data_path, tmp_path):
    packed = tmp_path / "toy.extxyz.xz"
    packed.write_bytes(lzma.compress(data_path.read_bytes()))
    plain, unpacked = read_frames(source(data_path)), read_frames(source(packed))
    assert len(plain) == len(unpacked) == 30
    assert all(
        np.array_equal(a.positions, b.positions) for a, b in zip(plain, unpacked, strict=True)
    )
    energies = [[atoms.get_potential_energy() for atoms in f] for f in (plain, unpacked)]
    assert energies[0] == energies[1]


def test_labels_of_tensors(tmp_path):
    """A dipole is ASE's, a polarizability an entry of info; both survive extended XYZ."""
    matrix = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    full = labelled("CO", -1.0, positions=[(0, 0, 0), (0, 0, 1.2)])
    full.calc.results["dipole"] = np.array([0.0, 0.0, 0.1])
    full.info["polarizability"] = matrix
    bare = labelled("CO", -1.0, positions=[(0, 0, 0), (0, 0, 1.3)])
    write(tmp_path / "x.extxyz", [full, bare])
    read = read_frames(source(tmp_path / "x.extxyz"))
    samples = make_samples(read, 3.0, ["dipole", "polarizability"])
    np.testing.assert_allclose(samples[0].tensors["dipole"], [0, 0, 0.1])
    np.testing.assert_allclose(samples[0].tensors["polarizability"], matrix)
    assert samples[1].tensors == {}
    assert make_samples(read, 3.0, ["dipole"])[0].tensors.keys() == {"dipole"}
    require_labels(samples, ["dipole", "polarizability"], "training")
    with pytest.raises(
        ValueError, match=r"model\.dipole is on, but no training frame has a dipole"
    ):
        require_labels(samples[1:], ["dipole"], "training")


@pytest.mark.parametrize(
    ("dipole", "matrix", "pbc", "message"),
    [
        ([0.0, np.nan, 0.1], None, False, "x: dipole: expected 3 finite numbers"),
        (None, [1.0, 2.0, 3.0], False, "x: polarizability: expected 9 finite numbers"),
        (None, np.arange(9.0), False, "x: polarizability: not a symmetric matrix"),
        ([0.0, 0.0, 0.1], None, True, "x: dipole: not defined for a periodic structure"),
        (None, "unknown", False, "x: polarizability: expected 9 finite numbers, got .*unknown"),
    ],
)
def test_labels_of_tensors_that_are_wrong(dipole, matrix, pbc, message):
    atoms = labelled("CO", -1.0, positions=[(0, 0, 0), (0, 0, 1.2)], cell=[9, 9, 9], pbc=pbc)
    if dipole is not None:
        atoms.calc.results["dipole"] = np.array(dipole)
    if matrix is not None:
        atoms.info["polarizability"] = matrix
    with pytest.raises(ValueError, match=message):
        tensor_labels(atoms, ["dipole", "polarizability"], "x")
    assert tensor_labels(atoms, [], "x") == {}  # nobody asks


def test_where_selects_by_value_and_by_list(data_path):
    assert len(read_frames(source(data_path, split="val"))) == 6
    assert len(read_frames(source(data_path, group=["g0", "g1"]))) == 20
    fold = [labelled("Cu", 1.0, info={"fold": np.array([k, 1])}) for k in range(3)]
    assert select(fold, {"fold": np.array([2, 1])}) == [fold[2]]
    with pytest.raises(ValueError, match="none of 30 frames"):
        read_frames(source(data_path, split="nothing"))


def test_missing_and_damaged_files(data_path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*no\.extxyz; check the path"):
        read_frames(source(tmp_path / "no.extxyz"))
    truncated = tmp_path / "cut.extxyz.xz"
    truncated.write_bytes(lzma.compress(data_path.read_bytes())[:-50])
    with pytest.raises(ValueError, match="not readable as extended XYZ"):
        read_frames(source(truncated))


def test_frames_without_or_with_broken_labels_are_refused(tmp_path):
    path = tmp_path / "a.extxyz"
    write(path, ase.Atoms("Cu"), format="extxyz")
    with pytest.raises(
        ValueError, match=r"frame 0 has no energy or no forces.*keys energy and for"
    ):
        read_frames(source(path))
    write(path, labelled("Cu", 1.0, np.full((1, 3), np.nan)), format="extxyz")
    with pytest.raises(ValueError, match=r"a\.extxyz: frame 0: forces not finite"):
        read_frames(source(path))


HEAD = "Properties=species:S:1:pos:R:3:forces:R:3"
SOUND = f"1\nenergy=1.0 {HEAD}\nCu 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (SOUND.replace("energy=1.0", "energy=nan"), "energy not finite"),
        (SOUND.replace("1.0", '1.0 stress="nan 0 0 0 1 0 0 0 1"'), "stress not finite"),
        (SOUND.replace("Cu 0", "Cu nan"), "positions: atom 0 is at .*not finite"),
        (SOUND.replace("1.0", '1.0 Lattice="nan 0 0 0 1 0 0 0 1"'), "cell: not finite"),
        (SOUND.replace("1.0", '1.0 Lattice="0 0 0 0 1 0 0 0 1" pbc="T T T"'), "cell: .*volume"),
        (f"0\nenergy=1.0 {HEAD}\n", "no atoms"),
    ],
)
def test_unsound_frames_are_named_with_their_file(tmp_path, frame, message):
    path = tmp_path / "a.extxyz"
    path.write_text(SOUND + frame)
    with pytest.raises(ValueError, match=rf"a\.extxyz: frame 1: {message}"):
        read_frames(source(path))


def test_forces_of_fixed_atoms_are_labels_too(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(
        "2\nProperties=species:S:1:pos:R:3:forces:R:3:move_mask:L:1 energy=1.0\n"
        "Cu 0 0 0 0.5 0 0 F\nCu 2 0 0 -0.5 0 0 T\n"
    )
    (atoms,) = read_frames(source(path))
    assert atoms.get_forces().tolist() == [[0.5, 0, 0], [-0.5, 0, 0]]


def test_atoms_at_the_same_place_are_named_with_their_file(tmp_path):
    path = tmp_path / "a.extxyz"
    good = labelled("Cu2", 1.0, positions=[[0, 0, 0], [2, 0, 0]], info={"keep": 1})
    bad = labelled("Cu2", 1.0, positions=[[0, 0, 0], [0, 1e-7, 0]], info={"keep": 1})
    write(path, [labelled("Cu", 1.0), good, bad], format="extxyz")
    frames = read_frames(source(path, keep=1))
    with pytest.raises(GeometryError, match=r"a\.extxyz: frame 2: atoms 0 and 1 are at the same"):
        make_samples(frames, 3.0)


def test_overlapping_sets_are_refused(data_path):
    everything, held_out = source(data_path), source(data_path, split="val")
    with pytest.raises(ValueError, match="both train and test"):
        split_frames(DataConfig(train=everything, validation=0.001, test=held_out), 0)
    with pytest.raises(ValueError, match="both train and validation"):
        split_frames(DataConfig(train=everything, validation=held_out), 0)


def test_elements_that_are_never_trained_on_are_named(tmp_path):
    path = tmp_path / "x.extxyz"
    frames = [labelled(symbol, 1.0, info={"split": symbol}) for symbol in ("Cu", "Au")]
    write(path, frames, format="extxyz")
    config = DataConfig(train=source(path, split="Cu"), validation=source(path, split="Au"))
    with pytest.raises(ValueError, match="frames hold Au"):
        split_frames(config, 0)


def test_validation_fraction_is_held_back_by_seed(data_path):
    config = DataConfig(train=source(data_path), validation=0.2)
    first, again, other = (split_frames(config, seed) for seed in (3, 3, 4))
    assert (len(first.train), len(first.validation)) == (24, 6)

    def energies(frames):
        return [atoms.get_potential_energy() for atoms in frames]

    assert energies(first.validation) == energies(again.validation)
    assert energies(first.validation) != energies(other.validation)
    assert not set(energies(first.train)) & set(energies(first.validation))


def test_extreme_frames_are_dropped_from_training_only(tmp_path):
    frames = [labelled("Cu", 1.0 + 0.01 * k, positions=[[k, 0, 0]]) for k in range(8)]
    frames.append(labelled("Cu", 1.0, np.full((1, 3), 50.0), positions=[[9, 0, 0]]))
    frames.append(labelled("Cu", 9.0, positions=[[10, 0, 0]]))
    for k, atoms in enumerate(frames):
        atoms.info["split"] = "val" if k < 2 else "train"
    path = tmp_path / "x.extxyz"
    write(path, frames, format="extxyz")
    train, val = source(path, split="train"), source(path, split="val")
    split = split_frames(DataConfig(train=train, validation=val, max_force=10, max_energy=2), 0)
    assert (len(split.train), len(split.validation), split.n_dropped) == (6, 2, 2)


def test_composition_is_recovered():
    true = {1: -13.6, 6: -1030.0, 8: -2040.0}
    formulas = ["H2", "CH4", "CO2", "H2O", "C2H6O"]
    frames = [labelled(f, sum(true[z] for z in ase.Atoms(f).numbers)) for f in formulas]
    assert fit_composition(frames) == pytest.approx(true, abs=1e-9)


def test_composition_without_a_choice_is_still_finite():
    fitted = fit_composition([labelled("NaCl", -6.0), labelled("Na2Cl2", -12.0)])
    assert fitted[11] + fitted[17] == pytest.approx(-6.0)


def test_batches_hold_every_sample_once_within_their_limits(frames):
    samples = make_samples(frames, 4.0)
    generator = torch.Generator().manual_seed(0)
    for batches in (
        group_batches(samples, structures=4, slots=300, generator=generator),
        group_batches(samples, structures=4, slots=300, generator=None),
    ):
        assert sorted(k for batch in batches for k in batch) == list(range(30))
        assert max(map(len, batches)) <= 4
        for batch in batches:
            widest = max(samples[k].most_neighbors for k in batch) + 1
            atoms = sum(samples[k].graph.n_atoms for k in batch)
            assert len(batch) == 1 or atoms * widest <= 300


def test_batch_equals_singles(frames):
    samples = make_samples(frames[:5], 4.0)
    torch.manual_seed(0)
    pet = PET(PETHypers(cutoff=4.0, d_model=8, n_heads=2), [13, 29]).double()
    batch = collate(samples)
    together = pet(batch.graph).split(batch.n_atoms.tolist())
    for sample, energies in zip(samples, together, strict=True):
        torch.testing.assert_close(pet(sample.graph), energies, rtol=1e-12, atol=1e-12)
    graph = batch.graph
    assert torch.equal(graph.centers[graph.reverse], graph.others)
    assert torch.equal(graph.vectors[graph.reverse], -graph.vectors)
    assert batch.has_stress.tolist() == [False, True, True, False, True]
    torch.testing.assert_close(batch.stress[1], torch.tensor(frames[1].get_stress(voigt=False)))
