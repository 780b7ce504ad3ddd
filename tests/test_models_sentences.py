"""Sentence embeddings are unit rows in the order of the texts, whatever batch they were in."""

from pathlib import Path

import numpy as np
import pytest

from charactery.models.sentences import SentenceEncoder

TEXTS = ["A short one.", "", "A much longer sentence about the tide, the harbour and a rope. " * 30, "Grüße 🙂", "b"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder(tiny_encoder_folder)


def test_each_text_has_a_unit_row_of_its_own(encoder: SentenceEncoder) -> None:
    encoder.model.float()  # in bfloat16 the company shows in the third digit
    vectors_N_D = encoder(TEXTS)
    assert vectors_N_D.shape == (5, 64) and vectors_N_D.dtype == np.float32
    assert np.linalg.norm(vectors_N_D, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    alone = np.concatenate([encoder([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors_N_D, alone, atol=1e-5)  # padding plays no part
    np.testing.assert_allclose(encoder(TEXTS, batch_size=2), alone, atol=1e-5)
    assert np.abs(alone @ alone.T - np.eye(5)).max() < 0.99


def test_near_duplicates_lie_near(encoder: SentenceEncoder) -> None:
    texts = [
        "How do I keep rice from sticking to the pot?",
        "How do I keep rice from sticking to the pot",
        "Why is it cold?",
    ]
    first, same, other = encoder(texts)
    assert first @ same > 0.9 > 0.5 > first @ other


def test_no_texts_are_no_rows(encoder: SentenceEncoder) -> None:
    assert encoder([]).shape == (0, 64)
