"""A text model that reads each caption once."""

import copy

import torch

from ladic.testing import tiny_text_space


def test_captions_that_were_trained_on_are_read_once(monkeypatch) -> None:
    space, plain = tiny_text_space(remember=3), tiny_text_space()
    space.load_state_dict(plain.state_dict())
    read: list[int] = []
    features = space._features

    def counted(ids, mask):
        read.append(len(ids))
        return features(ids, mask)

    monkeypatch.setattr(space, "_features", counted)
    captions = ["a red circle", "a blue square", "a red circle", "a green star", "a dog"]
    encoded = space.tokenize(captions)
    tokens = encoded.input_ids, encoded.attention_mask
    space.eval().encode(*tokens)
    assert read == [5], "captioning has nothing to remember"
    space.train()
    for _ in range(2):
        torch.testing.assert_close(space.encode(*tokens), plain.encode(*tokens))
    assert read == [5, 5, 1], "three are known, and the fourth is read again"
    assert len(space.memory.known) == 3
    assert all(kept.untyped_storage().nbytes() == kept.nbytes for kept in space.memory.known.values())
    assert not copy.deepcopy(space).memory.known, "an average of the weights needs no memory of its own"
