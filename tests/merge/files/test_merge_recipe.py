"""Recipes in mergekit's convention."""

import json

import pytest
import torch
from checkpoints import read, same, weights, write

from thalweg.core.errors import UsageError
from thalweg.merge import DARE, SLERP, TIES, TaskArithmetic, UniformSoup, merge, merge_files
from thalweg.merge.files import read_recipe
from thalweg.merge.files.recipe import ByTensor


@pytest.fixture
def recipe(tmp_path):
    pytest.importorskip("yaml")

    def reader(text):
        (tmp_path / "merge.yaml").write_text(text)
        return read_recipe(tmp_path / "merge.yaml")

    return reader


MODELS = """
models:
  - model: base
  - model: a
    parameters: {weight: 0.5, density: 0.4}
  - model: b
    parameters: {weight: 0.25, density: 0.2}
base_model: base
"""


def test_methods_and_their_numbers(recipe):
    found = recipe(MODELS + "merge_method: ties\ndtype: bfloat16\nparameters: {lambda: 1.5}")
    assert found.method == TIES((0.4, 0.2), 1.5, (0.5, 0.25), "tensor")
    assert (found.models, found.base) == (("a", "b"), "base")
    assert found.dtype == torch.bfloat16
    found = recipe(MODELS + "merge_method: ties\nparameters: {normalize: false}")
    assert not found.method.normalise
    found = recipe(MODELS + "merge_method: task_arithmetic")
    assert found.method == TaskArithmetic(1.0, (0.5, 0.25))
    found = recipe(MODELS + "merge_method: task_arithmetic\nparameters: {normalize: true}")
    assert found.method.weights == pytest.approx((2 / 3, 1 / 3))
    found = recipe(MODELS + "merge_method: dare_linear")
    assert found.method == DARE((0.6, 0.8), TaskArithmetic(1.0, (0.5, 0.25)))
    found = recipe(MODELS + "merge_method: dare_ties\nparameters: {rescale: false}")
    assert found.method.then == TIES(1.0, 1.0, (0.5, 0.25), "tensor")
    assert not found.method.rescale
    found = recipe(MODELS + "merge_method: model_stock")
    assert found.models == ("a", "b")
    linear = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]"
    found = recipe(linear + "\nmerge_method: linear")
    assert found.method == UniformSoup((1, 3))
    assert found.base is None


SLERP_TEXT = """
slices:
  - sources:
      - {model: b, layer_range: [0, 5]}
      - {model: a, layer_range: [0, 5]}
merge_method: slerp
base_model: a
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 1]}
    - {filter: mlp, value: 0.1}
    - value: 0.4
dtype: float16
"""


def test_numbers_may_differ_among_layers_and_tensors(recipe):
    found = recipe(SLERP_TEXT)
    assert found.models == ("a", "b")  # t = 0 is the base
    assert isinstance(found.method, ByTensor)

    def t(name):
        return found.method.of(name).t

    assert t("lm_head.weight") == 0.4
    assert t("model.layers.3.mlp.up.weight") == 0.1
    places = [t(f"model.layers.{i}.self_attn.q.weight") for i in range(5)]
    assert places == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_recipe_merges_as_it_says(recipe, tmp_path):
    write(tmp_path / "a", weights(1), config={"num_hidden_layers": 2})
    write(tmp_path / "b", weights(2))
    text = f"""
models: [{{model: {tmp_path}/a}}, {{model: {tmp_path}/b}}]
merge_method: slerp
base_model: {tmp_path}/a
parameters: {{t: [{{filter: layers, value: [0.25, 0.75]}}, {{value: 0.5}}]}}
"""
    found = recipe(text)
    merge_files(found.method, found.models, found.base, out=tmp_path / "out")
    by_t = {t: merge(SLERP(t), [weights(1), weights(2)]) for t in (0.25, 0.5, 0.75)}
    expected = {
        n: by_t[0.25 if "layers.0" in n else 0.75 if "layers.1" in n else 0.5][n]
        for n in weights(1)
    }
    assert same(read(tmp_path / "out"), expected)
    record = json.loads((tmp_path / "out/merge.json").read_text())
    assert record["merge"] == "ByTensor"
    weighted = f"""
models:
  - {{model: {tmp_path}/a, parameters: {{weight: [{{filter: layers.0, value: 1}}, {{value: 0}}]}}}}
  - {{model: {tmp_path}/b, parameters: {{weight: 1}}}}
merge_method: linear
"""
    found = recipe(weighted)
    merge_files(found.method, found.models, out=tmp_path / "weighted")
    result = read(tmp_path / "weighted")
    assert torch.equal(result["embed.weight"], weights(2)["embed.weight"])
    mean = merge("model-soups", [weights(1), weights(2)])
    assert torch.equal(result["layers.0.weight"], mean["layers.0.weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "is no merge recipe"),
        ("a: [", "cannot be read"),
        ("models: []\nmerge_method: ties", "there are no models"),
        (MODELS + "merge_method: passthrough", 'merge_method is "passthrough"'),
        (MODELS + "merge_method: tise", 'Did you mean "ties"'),
        (MODELS + "merge_metod: ties", 'Did you mean "merge_method"'),
        (MODELS + "merge_method: ties\nparameters: {densty: 1}", 'Did you mean "density"'),
        (MODELS + "merge_method: ties\ndtype: int8", 'the dtype "int8"'),
        (MODELS + "merge_method: ties\nparameters: {lambda: x}", "scale cannot be read"),
        (MODELS + "merge_method: linear\nparameters: {normalize: false}", "use task_arithmetic"),
        ("models: [{model: a}]\nbase_model: b\nmerge_method: ties", 'needs a "weight"'),
        ("models: [{name: a}]\nmerge_method: ties", 'needs "model"'),
        ("merge_method: ties", '"models" or "slices"'),
        (MODELS + "merge_method: ties\ndtype: [float32]", "the dtype"),
        (MODELS + "merge_method: ties\nparameters: {lambda: {filter: a}}", "scale cannot be read"),
        (MODELS + "merge_method: ties\nparameters: {lambda: {a: 1}}", "scale cannot be read"),
        ("slices: [{sources: 3}]\nmerge_method: slerp", "the same layers"),
        (SLERP_TEXT.replace("[0, 5]", "[0, x]"), "the same layers"),
        ("slices: [{}, {}]\nmerge_method: slerp", "stacks of layers are not read"),
        (SLERP_TEXT.replace("[0, 5]}\n      - ", "[0, 4]}\n      - "), "the same layers"),
    ],
)
def test_what_is_not_read_is_refused(text, message, recipe):
    with pytest.raises(UsageError, match=message):
        recipe(text)


def test_numbers_along_unknown_layers_are_refused(recipe):
    found = recipe("models: [{model: a}, {model: b}]\nmerge_method: slerp\nparameters: {t: [0, 1]}")
    with pytest.raises(UsageError, match="num_hidden_layers"):
        found.method.of("layers.1.weight")


def test_a_slice_must_reach_the_last_layer(recipe, tmp_path):
    for name in "ab":
        write(tmp_path / name, weights(1), config={"num_hidden_layers": 3})
    text = f"""
slices:
  - sources:
      - {{model: {tmp_path}/a, layer_range: [0, 3]}}
      - {{model: {tmp_path}/b, layer_range: [0, 3]}}
merge_method: slerp
parameters: {{t: 0.5}}
"""
    assert recipe(text).method == SLERP(0.5)
    with pytest.raises(UsageError, match="ends at layer 2 of 3"):
        recipe(text.replace("[0, 3]", "[0, 2]"))


def test_a_missing_file_is_named(tmp_path):
    pytest.importorskip("yaml")
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        read_recipe(tmp_path / "none.yaml")
