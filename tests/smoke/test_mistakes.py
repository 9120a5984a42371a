"""A mistake of a conversion is named by the loss that comes back without it; sound models are not accused."""

from __future__ import annotations

from functools import partial

import pytest

from internlm_zoo.smoke.mistakes import MISTAKES
from internlm_zoo.smoke.optimum import attempts
from internlm_zoo.smoke.passage_check import passage_check
from internlm_zoo.smoke.passages import encode_passages, passage_losses
from tests.loading.demo import MODELS, edit_json, home_of, load_model, nameless, rewritten
from tests.smoke import seeded
from tests.smoke.seeded import SEEDS, SHAPES

BASE, CHAT = MODELS
# On four layers it is the same as the other.
SAME = {"the layers of two stages are taken in turn": "the layers are dealt to two stages in turn"}
OF_BIASES_OR_EQUAL_HEADS = (
    "q and k are exchanged",
    "q and v are exchanged",
    "k, v and q stand",
    "v, q and k stand",
    "q, k, v and o are transposed",
    "ranks of q, k and v",
    "bias",
)
OF_GROUPS = ("kv groups twice", "order of kv groups", "each kv group")
# Of one of the models the others are enough, for there are many.
ON_BOTH = ("the fused wqkv", "q and k", "k and v")
# A mistake that costs a model nothing is none that its texts can tell.
COSTLESS: dict[str, set[str]] = {BASE: set(), CHAT: set()}
FEW = ((CHAT, "q and k are in rotary pairs, not halves"),)
BASE_TOO = [CHAT, pytest.param(BASE, marks=pytest.mark.slow)]


def models_of(what):
    if any(part in what for part in OF_BIASES_OR_EQUAL_HEADS):
        return [BASE]
    if any(part in what for part in OF_GROUPS):
        return [CHAT]
    return list(MODELS) if any(part in what for part in ON_BOTH) else [CHAT]


EVERY = [(model, what) for what in SEEDS for model in models_of(what)]


def passages_of(result):
    return next(check for check in result["checks"] if check["name"] == "passages")


def judged(smoke, directories, tmp_path, model, seed, *args):
    folder = nameless(directories[model, "llama"], tmp_path)
    made = partial(seed, shape=SHAPES[model])
    return smoke(rewritten(folder, tmp_path / "wrong", made), *args)


def test_every_mistake_of_the_table_is_tried_here():
    assert {one.what for one in MISTAKES} == SEEDS.keys() | SAME.keys()
    assert len({one.what for one in MISTAKES}) == len(MISTAKES) >= 45


@pytest.mark.parametrize(("model", "what"), FEW)
def test_a_mistake_in_all_layers_is_named(smoke, directories, tmp_path, model, what):
    code, result = judged(smoke, directories, tmp_path, model, SEEDS[what], "--as", model)
    check = passages_of(result)
    assert code == 1 and not check["ok"], check["sentence"]
    assert str(check["cause"]).startswith(f"{what}: without that mistake"), check
    assert check["cause"] in result["sentence"]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "what"), EVERY)
def test_every_mistake_of_the_table_is_named_or_costs_nothing(directories, tmp_path, model, what):
    """By the one check that names them; the whole smoke test of a model takes thrice as long."""
    made = partial(SEEDS[what], shape=SHAPES[model])
    wrong = rewritten(directories[model, "llama"], tmp_path / "wrong", made)
    loaded = load_model(wrong, settings=home_of(tmp_path), known_as=model, dtype="float32")
    check = passage_check(loaded, loaded.plan.directory.model.smoke.passages)
    if what in COSTLESS[model]:
        assert check.ok, check.sentence
        return
    assert not check.ok, check.sentence
    assert str(check.cause).startswith(f"{what}: without that mistake"), check


@pytest.mark.parametrize(
    ("place", "seed", "says"),
    [
        ("layer", lambda tensors, shape: seeded.put(tensors, *places(2, "gate", "up")), "(in layer 2)"),
        pytest.param(
            "layers",
            lambda tensors, shape: seeded.layers(tensors, shape, lambda _: (0, 3, 2, 1), seeded.ALL),
            "(layers 1 and 3 with each other)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_in_one_layer_is_named_with_the_layer(smoke, directories, tmp_path, place, seed, says):
    code, result = judged(smoke, directories, tmp_path, BASE, seed, "--as", BASE)
    assert code == 1 and says in result["sentence"]


def places(layer, one, other):
    return [seeded.key(layer, one), seeded.key(layer, other)], [
        seeded.key(layer, other),
        seeded.key(layer, one),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["k and v are exchanged", "the rows of the head stand one place early"])
def test_a_mistake_is_named_where_nothing_is_known_of_the_model(smoke, directories, tmp_path, what):
    code, result = judged(smoke, directories, tmp_path, BASE, SEEDS[what])
    assert code == 1 and f"{what}: without that mistake" in result["sentence"]


@pytest.mark.slow
def test_a_mistake_that_leaves_an_unknown_model_within_all_limits_is_named(smoke, directories, tmp_path):
    what = "the MLP's norms stand one layer early"
    code, result = judged(smoke, directories, tmp_path, CHAT, SEEDS[what])
    assert code == 1 and [check["name"] for check in result["checks"] if not check["ok"]] == ["passages"]
    assert f"but a mistake was made; {what}: without that mistake" in result["sentence"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "says"), [(BASE, "it reads as it should"), (CHAT, "it reads better")], ids=MODELS
)
def test_a_config_of_another_generation_is_named_where_not_even_the_shape_is_known(
    smoke, directories, tmp_path, monkeypatch, model, says
):
    (tmp_path / "overlay.yaml").write_text(f"models: {{{model}: {{architecture: null}}}}")
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(tmp_path / "overlay.yaml"))
    folder = nameless(directories[model, "llama"], tmp_path)
    right, wrong = ("10000.0", 1_000_000) if model == BASE else ("1000000.0", 10_000)
    edit_json(folder / "config.json", rope_theta=wrong)
    code, result = smoke(folder)
    assert code == 1
    assert f"with rope_theta {right} instead of {wrong} {says}: the config is wrong" in result["sentence"]


@pytest.mark.slow
def test_damage_that_no_mistake_explains_is_given_no_cause(smoke, directories, tmp_path):
    def damage(tensors, shape):
        tensors["model.layers.1.mlp.down_proj.weight"][:] = 0

    code, result = judged(smoke, directories, tmp_path, BASE, damage, "--as", BASE)
    check = passages_of(result)
    assert code == 1 and not check["ok"] and check["cause"] is None


@pytest.mark.parametrize("model", BASE_TOO)
@pytest.mark.parametrize("every", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_sound_model_gains_by_no_correction_and_is_bit_for_bit_what_it_was(
    directories, tmp_path, model, every
):
    loaded = load_model(directories[model, "llama"], settings=home_of(tmp_path), dtype="float32")
    before = {name: (one.data_ptr(), one.clone()) for name, one in loaded.model.named_parameters()}
    encoded = [one for one in encode_passages(loaded) if one.passage.name in ("fable", "analects")]
    sound, tried = passage_losses(loaded, encoded), 0
    for attempt in attempts(loaded, encoded, every=every):
        tried += 1
        gains = [sound[name] - loss for name, loss in attempt.losses.items()]
        assert max(gains) <= 0.05, str(attempt)
    assert tried >= (45 if every else 30)
    for name, one in loaded.model.named_parameters():
        place, values = before[name]
        assert one.data_ptr() == place and one.equal(values), name


def test_what_fails_halfway_leaves_the_model_as_it_was(directories, tmp_path):
    from internlm_zoo.smoke.corrections import corrected

    loaded = load_model(directories[CHAT, "llama"], settings=home_of(tmp_path))
    before = [one.clone() for one in loaded.model.parameters()]
    with pytest.raises(KeyboardInterrupt), corrected(loaded.model, MISTAKES[0].correction, [0, 1]) as applied:
        assert applied
        assert not all(map(lambda a, b: a.equal(b), loaded.model.parameters(), before))
        raise KeyboardInterrupt
    assert all(map(lambda a, b: a.equal(b), loaded.model.parameters(), before))
