"""compare on models that answer what the test tells them to: figures against NumPy, and bad arguments."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import qlm
from qlm.comparison import batches, label_indices, measure
from qlm.models.linear import Linear
from qlm.models.pooling import Pooling

HIDDEN = 6


class FakeModel:
    """A model of random vectors for token ids 0..99, mean pooling; its logits are the first features."""

    def __init__(self, table, labels=(), nbytes=1000, linears=None, normalize=False):
        self.table = table.astype(np.float32)
        self.labels = list(labels)
        self.nbytes = nbytes
        self.hidden_size = table.shape[1]
        self.weights = SimpleNamespace(linears=linears or {})
        self.folder = SimpleNamespace(pooling=Pooling("mean", normalize))
        self.calls = 0

    def forward(self, ids, mask, type_ids):
        self.calls += 1
        states = self.table[ids] * mask[..., None].astype(np.float32)
        logits = np.ascontiguousarray(states[:, 0, : len(self.labels)]) if self.labels else None
        return SimpleNamespace(last_hidden_state=states, logits=logits)

    def tokenize(self, texts):
        return [([len(word) for word in text.split()], [0] * len(text.split())) for text in texts]


def tables(noise=0.3):
    random = np.random.default_rng(0)
    table = random.standard_normal((100, HIDDEN))
    return table, table + noise * random.standard_normal(table.shape)


@pytest.fixture
def rows():
    random = np.random.default_rng(1)
    return [random.integers(0, 100, size=random.integers(1, 9)) for _ in range(75)]


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_figures_equal_numpys(rows):
    first, second = tables()
    names = ("bad", "fair", "good")
    truth = [int(row[0]) % 3 for row in rows]
    report = qlm.compare(
        FakeModel(first, names, 4000), FakeModel(second, names, 1000), rows, labels=[names[i] for i in truth]
    )
    a, b = (np.array([table[row].mean(0) for row in rows]) for table in (first, second))
    cosine = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert report.cosine == pytest.approx(cosine.mean(), rel=1e-6)
    assert report.cosine.min == pytest.approx(cosine.min(), rel=1e-6)
    x, y = (np.array([table[row[0], :3] for row in rows]) for table in (first, second))
    p, q = softmax(x), softmax(y)
    assert report.kl == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-5)
    same = (x.argmax(1) == y.argmax(1)).mean()
    assert report.agreement == same
    assert report.flips == pytest.approx(1 - same)
    assert 0 < report.flips < 0.5
    assert report.accuracy == (y.argmax(1) == truth).mean()
    assert report.accuracy_drop == pytest.approx((x.argmax(1) == truth).mean() - (y.argmax(1) == truth).mean())
    assert report.accuracy_drop.low < report.accuracy_drop < report.accuracy_drop.high
    assert report.size_ratio == 4
    assert report.perplexity_ratio is None
    assert (report.texts, report.threads) == (75, qlm.get_num_threads())


def test_a_model_equals_itself(rows):
    model = FakeModel(tables()[0], ("a", "b"))
    report = qlm.compare(model, model, rows)
    assert report.cosine == report.cosine.min == report.cosine.low == 1.0
    assert report.kl == report.flips == 0.0
    assert report.agreement == 1.0
    assert report.flips.high > 0
    assert report.accuracy is None
    assert report.accuracy_drop is None


def test_encoders_have_no_answers_to_judge(rows):
    first, second = tables()
    report = qlm.compare(FakeModel(first), FakeModel(second), rows)
    assert report.cosine < 1
    assert [report.agreement, report.flips, report.accuracy, report.accuracy_drop, report.kl] == [None] * 5


def test_a_mapping_gives_a_comparison_with_equal_figures(rows):
    first, second = tables()
    reference, near = FakeModel(first, ("a", "b")), FakeModel(second, ("a", "b"))
    both = qlm.compare(reference, {"near": near, "same": reference}, rows)
    assert isinstance(both, qlm.Comparison)
    assert list(both) == ["near", "same"]
    assert both["near"].candidate == "near"
    alone = qlm.compare(reference, near, rows)
    for name in ("cosine", "agreement", "kl", "flips"):
        assert getattr(both["near"], name).to_dict() == getattr(alone, name).to_dict()
    json.dumps(both.to_dict(), allow_nan=False)


def test_texts_and_their_tokens_give_the_same_report():
    first, second = tables()
    texts = ["a bb ccc", "dddd", "ee ffffff g"]
    tokens = [np.array([1, 2, 3]), [4], np.array([2, 6, 1], np.uint8)]
    by_text = qlm.compare(FakeModel(first), FakeModel(second), texts)
    by_token = qlm.compare(FakeModel(first), FakeModel(second), tokens)
    assert by_text.cosine.to_dict() == by_token.cosine.to_dict()


def test_a_matrix_is_a_text_a_row(rows):
    first, second = tables()
    ids = np.random.default_rng(2).integers(0, 100, (40, 5))
    whole = qlm.compare(FakeModel(first), FakeModel(second), ids)
    assert whole.texts == 40
    parts = qlm.compare(FakeModel(first), FakeModel(second), iter([ids[:7], ids[7:]]))
    assert whole.cosine.to_dict() == parts.cosine.to_dict()


def test_data_is_streamed_in_batches(rows):
    reference = FakeModel(tables()[0], ("a", "b"))
    taken = []

    def stream():
        for index, row in enumerate(rows):
            taken.append(index)
            yield row

    for index, batch in enumerate(batches(reference, stream(), (0 for _ in rows))):
        assert batch.ids.shape == batch.mask.shape
        assert len(taken) == min(32 * (index + 1), len(rows))


def test_short_data_is_timed_again():
    first, second = tables()
    reference, candidate = FakeModel(first), FakeModel(second)
    report = qlm.compare(reference, candidate, [[1, 2, 3]])
    assert reference.calls == candidate.calls == 16  # once to warm up, then 15 timings
    assert report.speedup.low <= report.speedup <= report.speedup.high
    assert report.milliseconds > 0
    assert report.reference_milliseconds > 0
    measure(reference, {"x": candidate}, [[1, 2, 3]], least_timings=0)
    assert candidate.calls == 18


def test_reference_and_candidates_run_in_turn(rows):
    order = []

    class Noted(FakeModel):
        def forward(self, *arguments):
            order.append(self.name)
            return super().forward(*arguments)

    models = {}
    for name in ("reference", "a", "b"):
        models[name] = Noted(tables()[0])
        models[name].name = name
    qlm.compare(models["reference"], {"a": models["a"], "b": models["b"]}, rows)
    assert order == ["reference", "a", "b"] * (len(order) // 3)
    assert len(order) >= 3 * 15


def test_layers_tell_bits_and_errors(rows):
    random = np.random.default_rng(3)
    weight = random.standard_normal((8, HIDDEN)).astype(np.float32)
    scale = np.exp(random.standard_normal(HIDDEN)).astype(np.float32)
    q, smooth = qlm.quantize(weight, axis=0), qlm.quantize(weight * scale, axis=0)
    reference = FakeModel(tables()[0], linears={name: Linear(name, weight) for name in ("plain", "smooth", "kept")})
    linears = {"plain": Linear("plain", q), "smooth": Linear("smooth", smooth, input_scale=scale)}
    candidate = FakeModel(tables()[0], linears={**linears, "kept": Linear("kept", weight)})
    layers = qlm.compare(reference, candidate, rows).layers
    stats = q.error(weight)
    assert (layers["plain"].bits, layers["plain"].sqnr_db, layers["plain"].cosine) == (8, stats.sqnr_db, stats.cosine)
    undone = smooth.dequantize() / scale
    ratio = (weight.astype(float) ** 2).sum() / ((undone.astype(float) - weight) ** 2).sum()
    assert layers["smooth"].sqnr_db == pytest.approx(10 * np.log10(ratio), rel=1e-6)
    assert (layers["kept"].bits, layers["kept"].sqnr_db, layers["kept"].cosine) == (32, np.inf, 1.0)


def test_labels_by_name_and_index():
    names = ["negative", "positive"]
    assert list(label_indices(["negative", 1, np.int64(0), "1", "positive"], names)) == [0, 1, 0, 1, 1]
    assert list(label_indices(["0", "1"], ["1", "0"])) == [1, 0]  # a name goes before an index


@pytest.mark.parametrize(
    ("data", "labels", "error", "said"),
    [
        ("one text", None, TypeError, "data"),
        (5, None, TypeError, "data"),
        ({"a": 1}, None, TypeError, "data"),
        ([], None, ValueError, "no texts"),
        ([1, 2], None, TypeError, "data"),
        ([[0.5, 1.5]], None, TypeError, "integer"),
        ([[]], None, TypeError, "integer"),
        ([[[1, 2], [3]]], None, ValueError, "data"),
        (["a"], [], ValueError, "fewer"),
        (["a"], [0, 1], ValueError, "more"),
        (["a", "b"], [0, 2], ValueError, r"labels\[1\]"),
        (["a"], ["good"], ValueError, "good"),
        (["a"], [True], ValueError, "True"),
        (["a"], "x", TypeError, "labels"),
        (["a"], 3, TypeError, "labels"),
    ],
)
def test_bad_data_and_labels(data, labels, error, said):
    model = FakeModel(tables()[0], ("x", "y"))
    with pytest.raises(error, match=said):
        qlm.compare(model, model, data, labels=labels)


def test_models_that_do_not_fit():
    first, second = tables()
    model = FakeModel(first, ("x", "y"))
    with pytest.raises(ValueError, match="labels"):
        qlm.compare(model, FakeModel(second, ("y", "x")), ["a"])
    with pytest.raises(ValueError, match="hidden_size"):
        qlm.compare(model, {"slim": FakeModel(second[:, :4], ("x", "y"))}, ["a"])
    with pytest.raises(TypeError, match="candidate"):
        qlm.compare(model, "path/to/model", ["a"])
    with pytest.raises(TypeError, match="candidate 'a'"):
        qlm.compare(model, {"a": "path/to/model"}, ["a"])
    with pytest.raises(TypeError, match="name"):
        qlm.compare(model, {3: model}, ["a"])
    with pytest.raises(ValueError, match="candidate"):
        qlm.compare(model, {}, ["a"])
    with pytest.raises(ValueError, match="does not classify"):
        qlm.compare(FakeModel(first), FakeModel(second), ["a"], labels=[0])


def test_tokens_that_a_candidate_does_not_take():
    model, other = FakeModel(tables()[0]), FakeModel(tables()[1])

    def refuse(ids, mask, type_ids):
        raise ValueError("input_ids must be within 0..7")

    other.forward = refuse
    with pytest.raises(ValueError, match="candidate 'small': input_ids"):
        qlm.compare(model, {"small": other}, [[1, 9]])


def test_an_answer_that_is_not_finite():
    first, second = tables()
    second[7] = np.nan
    with pytest.raises(ValueError, match=r"candidate 'bad': the answer to data\[33\]"):
        qlm.compare(FakeModel(first), {"bad": FakeModel(second)}, [[1]] * 33 + [[7]])
