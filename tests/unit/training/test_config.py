from pathlib import Path

import pytest

from ase_pet.training.config import LossTerm, read_config


def test_paths_start_at_the_recipe(recipe, write_recipe, tmp_path):
    recipe["data"]["train"]["path"] = ["../a.extxyz", "b.extxyz.xz"]
    config = read_config(write_recipe(recipe))
    assert config.output == tmp_path / "run"
    assert config.data.train.path == [tmp_path.parent / "a.extxyz", tmp_path / "b.extxyz.xz"]


def test_all_mistakes_are_named_at_once(recipe, write_recipe):
    del recipe["provenance"]
    recipe["epoch"] = 5
    recipe["optimizer"]["learning_rate"] = -1.0
    with pytest.raises(ValueError, match="3 invalid entries") as caught:
        read_config(write_recipe(recipe))
    for name in ("provenance", "epoch", "optimizer.learning_rate", "got -1.0"):
        assert name in str(caught.value)


def test_unknown_hyperparameter_is_named_with_the_known_ones(recipe, write_recipe):
    recipe["model"]["n_layer"] = 2
    with pytest.raises(ValueError, match=r"n_layer.*known are.*n_attention_layers"):
        read_config(write_recipe(recipe))


def test_impossible_hyperparameter_is_refused(recipe, write_recipe):
    recipe["model"]["n_heads"] = 3
    with pytest.raises(ValueError, match="n_heads: expected a divisor"):
        read_config(write_recipe(recipe))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bond_energies", 1, "bond_energies: expected a finite bool, got 1"),
        ("bond_energies", "yes", "bond_energies: expected a finite bool, got 'yes'"),
        ("residual_factor", float("nan"), "residual_factor: expected a finite float, got nan"),
        ("cutoff", "abc", "cutoff: expected a finite float, got 'abc'"),
        ("cutoff", None, "cutoff: expected a finite float, got None"),
        ("d_model", "8", "d_model: expected a finite int, got '8'"),
        ("n_targets", 3, "n_targets: expected 1"),
    ],
)
def test_hyperparameters_that_no_checkpoint_can_hold_are_refused(
    recipe, write_recipe, name, value, message
):
    recipe["model"][name] = value
    with pytest.raises(ValueError, match=message):
        read_config(write_recipe(recipe))


def test_atom_rotations_need_one_message_layer(recipe, write_recipe):
    recipe["model"]["n_message_layers"] = 2
    with pytest.raises(ValueError, match="use rotations: structure"):
        read_config(write_recipe(recipe))
    recipe["rotations"] = "structure"
    assert read_config(write_recipe(recipe)).hypers.n_message_layers == 2


def test_frames_belong_to_atom_rotations(recipe, write_recipe):
    recipe["frames"] = 0.5
    assert read_config(write_recipe(recipe)).frames == 0.5
    recipe["rotations"] = "structure"
    with pytest.raises(ValueError, match="frames: needs rotations: atom"):
        read_config(write_recipe(recipe))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_validation_fraction_lies_between_zero_and_one(recipe, write_recipe, fraction):
    recipe["data"]["validation"] = fraction
    with pytest.raises(ValueError, match="fraction between 0 and 1"):
        read_config(write_recipe(recipe))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", ""])
def test_file_must_hold_a_mapping(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a recipe in YAML"):
        read_config(path)


def test_broken_yaml_is_reported(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read_config(path)


def test_a_recipe_is_text_in_utf8(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("name: Nørskov".encode("latin-1"))
    with pytest.raises(ValueError, match=r"recipe\.yaml: not a text in UTF-8"):
        read_config(path)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"no.yaml: no such file; give the recipe"):
        read_config(tmp_path / "no.yaml")


def test_weight_grows_geometrically():
    term = LossTerm(start_weight=0.01, weight=1.0, scale=1.0)
    assert [term.weight_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.01, 0.1, 1.0])
    assert LossTerm(weight=0.3, scale=1.0).weight_at(0.2) == 0.3
    assert LossTerm(start_weight=0.1, weight=0.0, scale=1.0).weight_at(0.0) == 0.0


def test_shipped_recipes_are_valid():
    folder = Path(__file__).parents[3] / "checkpoints" / "recipes"
    models = {path.stem for path in folder.parent.glob("*.pt")}
    recipes = {path.stem: read_config(path) for path in folder.glob("*.yaml")}
    assert recipes.keys() == models
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert recipe.architecture == name.partition("-")[0]
