"""What a latent space can't hold or split is refused: lengths of captions, and text models of other families."""

import json
from typing import Any

import pytest

from ladic.components import BertLatentSpace, EmbeddingLatentSpace
from ladic.errors import UsageError
from ladic.testing import TINY_BERT, tiny_tokenizer

SMALL: dict[str, Any] = {
    "config": {**TINY_BERT, "vocab_size": len(json.loads(tiny_tokenizer())["model"]["vocab"])},
    "tokenizer": tiny_tokenizer(),
}


@pytest.mark.parametrize("length", [2, 1, 0, -3])
def test_embeddings_of_no_word_are_refused(length: int) -> None:
    with pytest.raises(UsageError, match=rf"length={length}: need at least 3, for \[CLS\], a word and \[SEP\]"):
        EmbeddingLatentSpace(**SMALL, length=length)


def test_robertas_positions_begin_behind_padding() -> None:
    roberta = {**SMALL, "config": {**SMALL["config"], "model_type": "roberta", "pad_token_id": 0}}
    roberta["config"]["max_position_embeddings"] = 14
    space = BertLatentSpace(**roberta, layer=1, length=13)
    tokens = space.tokenize(["a b c d e f g h i j k l m n o"])
    assert int(tokens.attention_mask.sum()) == 13
    assert space.features(tokens.input_ids, tokens.attention_mask).shape == (1, 13, 32)
    with pytest.raises(UsageError, match="length=14: accepted are 3 to 13, the positions of the text model"):
        BertLatentSpace(**roberta, layer=1, length=14)


TAKEN = ("bert", "roberta", "xlm-roberta", "camembert", "ernie", "electra")
REFUSED = ("mpnet", "roformer", "deberta-v2", "convbert", "ibert")


@pytest.mark.parametrize("model_type", [*TAKEN, *REFUSED])
def test_layers_are_taken_apart_where_that_gives_the_models_own_features(model_type: str) -> None:
    width = {"embedding_size": TINY_BERT["hidden_size"]} if model_type == "electra" else {}
    arguments = {**SMALL, "config": {**SMALL["config"], "model_type": model_type, **width}}
    if model_type in REFUSED:
        with pytest.raises(UsageError, match=r"is not of the BERT family .* its layers can't be split"):
            BertLatentSpace(**arguments, layer=1, length=12)
    else:
        assert BertLatentSpace(**arguments, layer=1, length=12).layer == 1
