"""What a registry says of a model has to add up, and every sum that does not is named at once."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from internlm_zoo.registry import RegistryError, read_registry

WRONG = {
    "models: {internlm-7b: {parameters: 7000000000}}": [
        "internlm-7b: 7,000,000,000 parameters are stated, and its architecture has 7,321,948,160",
        "internlm-7b: 14,643,896,320 bytes are stated, and in 16 bits 7,000,000,000 parameters take",
    ],
    "models: {internlm-20b: {architecture: {attention_bias: true}}}": [
        "internlm-20b: 20,088,714,240 parameters are stated, and its architecture has 20,089,943,040"
    ],
    "models: {internlm2-7b: {kind: reward}}": [
        "internlm2-7b: 7,737,708,544 parameters are stated, and its architecture has 7,358,652,416"
    ],
    "models: {internlm2-7b: {bytes_16bit: 30950834176}}": [
        "internlm2-7b: 30,950,834,176 bytes are stated, and in 16 bits 7,737,708,544 parameters take 15,475,"
    ],
    "models: {internlm3-8b-instruct: {tokenizer: {pieces: 128513}}}": [
        "internlm3-8b-instruct: its tokenizer has 128,513 pieces, and its embedding 128,512 rows"
    ],
    "models: {internlm2-7b: {special_tokens: {turn_end: {id: 92544}}}}": [
        "internlm2-7b: <|im_end|> is 92544, and the vocabulary has 92,544"
    ],
    "models: {internlm2-7b: {special_tokens: {turn_end: {id: 92543}}}}": [
        "internlm2-7b: <|im_end|> and <|im_start|> are both 92543"
    ],
    "models: {internlm2-7b: {context: {trained: 200001}}}": [
        "internlm2-7b: 200,000 tokens are claimed, fewer than the 200,001 it was trained on"
    ],
    "models: {internlm-chat-7b: {update_date: 2023-07-05}}": [
        "internlm-chat-7b: updated on 2023-07-05, before its release on 2023-07-06"
    ],
}


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "my.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    with pytest.raises(RegistryError) as caught:
        read_registry(path)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "expected"), WRONG.items(), ids=[told[0] for told in WRONG.values()])
def test_what_does_not_add_up_is_refused_with_both_numbers(tmp_path, text, expected):
    found = problems(tmp_path, text)
    assert len(found) == len(expected)
    assert {problem.partition(": ")[0] for problem in found} == {f"{tmp_path}/my.yaml:1"}
    for told in expected:
        assert any(told in problem for problem in found), found


def test_a_wrong_value_of_an_overlay_is_named_with_its_line(tmp_path):
    (found,) = problems(tmp_path, "models:\n  internlm-7b:\n    bytes_16bit: 5\n")
    assert found.startswith(f"{tmp_path}/my.yaml:3: internlm-7b: 5 bytes are stated")


def test_more_rows_than_pieces_are_legal(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("models: {internlm2-7b: {tokenizer: {pieces: 92000}}}")
    assert read_registry(path).model("internlm2-7b").tokenizer.pieces == 92000


def test_validate_names_misspelt_fields_dangling_names_and_wrong_sums_at_once(zoo, tmp_path):
    import internlm_zoo.cli.catalogue  # noqa: F401  (registers the verb)

    path = tmp_path / "my.yaml"
    path.write_text(
        "models:\n  internlm-7b:\n    parameters: 7\n  internlm-20b:\n    colour: red\n"
        "  internlm2-7b:\n    family: intrnlm\n"
    )
    code, out, _ = zoo("registry", "validate", path)
    told = out.splitlines()
    assert code == 2
    assert [line.split(": ")[0] for line in told] == [f"{path}:{line}" for line in (3, 3, 5, 7)]
    assert "has no field 'colour'" in out and "there is no family 'intrnlm'" in out
    assert "7 parameters are stated" in out and "14,643,896,320 bytes" in out
