"""The evaluation callback: through the command line, and on two ranks of which one fails."""

import hashlib
import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tiny_run import error_line, tiny_config, write_config

import ladic.callbacks.evaluation
import ladic.metrics.scoring
from ladic.callbacks import CaptionEvaluation, TruthEvaluation
from ladic.callbacks.evaluation import TEST_METRICS
from ladic.errors import UsageError
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.scoring import score_captions

ADDED = "--trainer.callbacks+=CaptionEvaluation"


@pytest.fixture
def bare(tmp_path):
    """A configuration without the callback."""
    config = tiny_config(tmp_path)
    config["trainer"]["callbacks"] = config["trainer"]["callbacks"][1:]
    return write_config(tmp_path, config)


@pytest.fixture
def no_java(monkeypatch):
    def meteor(*args, **kwargs):
        raise Unavailable("there is no Java here")

    monkeypatch.setattr(ladic.metrics.scoring, "meteor", meteor)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_it_is_added_by_its_short_name_and_writes_three_files(cli, bare, tmp_path, no_java):
    run = tmp_path / "run"
    assert cli("fit", "-c", bare).code == 0
    assert not list(run.glob("*.json"))
    more = ["--model.sampler.num_steps=3", "--model.num_candidates=2", "--model.seed=5"]
    done = cli("test", "-c", bare, f"--ckpt_path={run}", ADDED, *more)
    assert done.code == 0, done.stderr

    results, rows, scores = (read(run, f"{name}_test") for name in ("results", "per_image", "scores"))
    assert [set(entry) for entry in results] == [{"image_id", "caption"}] * 4
    assert [{name: row[name] for name in ("image_id", "caption")} for row in rows] == results
    assert {"BLEU-4", "ROUGE-L", "CIDEr-D", "Repetition-2"} <= set(rows[0]["scores"])

    assert {"BLEU-1", "ROUGE-L", "CIDEr-D", "Length ratio", "Repetition-4", "distinct-2"} <= set(scores["scores"])
    assert scores["scores"]["METEOR"] is None
    assert scores["unavailable"] == {"METEOR": "there is no Java here"}
    assert (scores["split"], scores["images"], scores["step"], scores["tokenizer"]) == ("test", 4, 2, "ptb")
    assert scores["nfe"] == 6  # three steps, two passes each for guidance
    assert scores["num_candidates"] == 2
    assert scores["seeds"] == {"noise": 5, "seed_everything": 0}
    assert scores["sampler"]["init_args"]["num_steps"] == 3
    assert scores["guidance"]["scale"] == 2.0
    assert scores["config"]["components"]["image_encoder"]["class_path"].endswith(".ConvEncoder")
    assert len(json.dumps(scores)) < 6000  # a vocabulary is given by its hash
    digest = hashlib.sha256((run / "last.ckpt").read_bytes()).hexdigest()
    assert scores["checkpoint"] == {"path": str(run / "last.ckpt"), "sha256": digest}
    assert {"ladic", "torch", "lightning", "transformers", "numpy"} == set(scores["versions"])
    assert all(scores["versions"].values())
    assert 0 < scores["seconds_per_image"] <= scores["seconds"]


def test_validation_in_training_has_no_checkpoint_and_few_metrics(trained):
    scores = read(trained, "scores_val")
    assert scores["checkpoint"] is None
    assert scores["step"] == 2
    assert scores["nfe"] == 4
    plain = {name for name in scores["scores"] if not name.endswith("_shuffled")}
    assert plain == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr-D"}


def test_the_scores_are_those_of_ladic_score(cli, trained, tmp_path):
    from ladic.datamodules import ShapesDataModule

    source = ShapesDataModule(num_train=16, num_eval=4, size=32).split("val")
    references = {source.image_id(i): source.captions(i) for i in range(len(source))}
    (tmp_path / "refs.json").write_text(json.dumps(references))
    words = ["--references", tmp_path / "refs.json", "--metrics=bleu,cider", "--json", tmp_path / "scored.json"]
    assert cli("score", trained / "results_val.json", *words).code == 0
    (system,) = json.loads((tmp_path / "scored.json").read_text())["systems"]
    ours = read(trained, "scores_val")["scores"]
    assert system["scores"] == {name: ours[name] for name in system["scores"]}


def test_unknown_metrics_are_told_before_the_run(cli, bare):
    done = cli("test", "-c", bare, ADDED, "--trainer.callbacks.metrics=[blue]", "--ckpt_path=null")
    assert done.code == 2
    assert "CaptionEvaluation.metrics: no metric called 'blue'; there are bleu, meteor" in error_line(done.stderr)
    with pytest.raises(UsageError, match="test_metrics: none given"):
        CaptionEvaluation(test_metrics=())


def test_the_defaults_are_families_of_the_suite():
    assert set(TEST_METRICS) <= set(ladic.metrics.scoring.METRICS)


class FakeTrainer(SimpleNamespace):
    """As much of a trainer as the callback asks, over the process group that is there."""

    sanity_checking = False
    ckpt_path = None
    precision = "32-true"
    global_step = 7
    state = SimpleNamespace(fn="fit")

    def broadcast(self, value):
        if dist.is_initialized():
            values = [value]
            dist.broadcast_object_list(values, src=0)
            (value,) = values
        return value

    @property
    def strategy(self):
        return self


class FakeModule:
    seed = 3

    def __init__(self):
        self.logged = {}

    def parameters(self):
        return [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4), requires_grad=False)]

    def log_dict(self, values):
        self.logged |= {name: value.item() for name, value in values.items()}


CAPTIONS = ["a dog runs on grass", "", "two cats on a table", "a red bus", "a man with a hat"]
REFERENCES = [
    ["a dog runs", "the dog runs on green grass"],
    ["a bird"],
    ["two cats"],
    ["a bus", "a red bus"],
    ["a man"],
]


def evaluate(trainer, shares):
    """The callback over batches of image numbers; returns what was logged."""
    callback, module = CaptionEvaluation(), FakeModule()
    callback.on_validation_epoch_start(trainer, module)
    for numbers in shares:
        outputs = {"image_id": numbers, "captions": [CAPTIONS[i] for i in numbers], "nfe": 4}
        callback.on_validation_batch_end(trainer, module, outputs, {"references": [REFERENCES[i] for i in numbers]})
    callback.on_validation_epoch_end(trainer, module)
    return module.logged


def rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    trainer = FakeTrainer(is_global_zero=number == 0, world_size=2, default_root_dir=f"{folder}/run")
    # Five images for two ranks: the sampler hands out the first one twice.
    answer = {"logged": evaluate(trainer, [[0, 2], [4]] if number == 0 else [[1, 3], [0]])}

    def broken(*args, **kwargs):
        raise OSError("no space left")

    if number == 0:  # the other one only waits for its scores
        ladic.callbacks.evaluation.score_captions = broken
    try:
        evaluate(trainer, [[0, 2]] if number == 0 else [[1, 3]])
    except (OSError, RuntimeError) as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    Path(folder, f"{number}.json").write_text(json.dumps(answer))
    dist.destroy_process_group()


def in_ranks(work, folder):
    """Two forked processes."""
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=work, args=(number, str(folder)), daemon=True) for number in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=60)
        assert process.exitcode == 0  # None: it hangs


def test_all_ranks_log_the_same_and_hear_of_a_failure(tmp_path):
    in_ranks(rank, tmp_path)
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2))
    alone = score_captions(dict(enumerate(CAPTIONS)), dict(enumerate(REFERENCES)), ("bleu", "cider"))
    assert first["logged"] == second["logged"]
    assert first["logged"] == pytest.approx({f"val/{name}": value for name, value in alone.corpus.items()}, rel=1e-6)
    assert first["error"] == "OSError: no space left"
    assert second["error"] == "RuntimeError: scoring failed on rank 0: OSError: no space left"


def truths(number, folder):
    """Of three pictures for two ranks: the sampler hands out the first one twice."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    verdicts = {0: (True, 1, 1), 1: (False, 0, 3), 2: (False, 2, 4)}
    names = ("wholly_true", "objects_named", "objects_total")
    data = SimpleNamespace(truth=lambda _, i, __: SimpleNamespace(**dict(zip(names, verdicts[i], strict=True))))
    trainer, module, callback = SimpleNamespace(datamodule=data), FakeModule(), TruthEvaluation()
    callback.on_test_epoch_start(trainer, module)
    for image_id in [0, 2] if number == 0 else [1, 0]:
        callback.on_test_batch_end(trainer, module, {"image_id": [image_id], "captions": [CAPTIONS[image_id]]}, {})
    callback.on_test_epoch_end(trainer, module)
    Path(folder, f"{number}.json").write_text(json.dumps(module.logged))
    dist.destroy_process_group()


def test_truth_is_a_share_of_all_ranks_objects_and_of_each_picture_once(tmp_path):
    in_ranks(truths, tmp_path)
    logged = [read(tmp_path, str(number)) for number in range(2)]
    assert logged[0] == logged[1] == pytest.approx({"test/wholly_true": 1 / 3, "test/objects_named": 3 / 8})


def test_the_files_of_one_process(tmp_path):
    evaluate(FakeTrainer(is_global_zero=True, world_size=1, default_root_dir=str(tmp_path)), [[0, 1, 2], [3, 4]])
    scores = read(tmp_path, "scores_val")
    assert scores["scores"] == score_captions(dict(enumerate(CAPTIONS)), dict(enumerate(REFERENCES))).corpus
    assert (scores["images"], scores["nfe"], scores["step"], scores["config"]) == (5, 4, 7, {})
    assert read(tmp_path, "per_image_val")[1]["caption"] == ""
    first = (tmp_path / "results_val.json").read_bytes()
    evaluate(FakeTrainer(is_global_zero=True, world_size=1, default_root_dir=str(tmp_path)), [[3, 0], [4, 2, 1]])
    assert (tmp_path / "results_val.json").read_bytes() == first  # whatever order the captions came in


def test_captions_survive_a_failure_of_scoring(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(ladic.callbacks.evaluation, "score_captions", broken)
    trainer = FakeTrainer(is_global_zero=True, world_size=1, default_root_dir=str(tmp_path))
    with pytest.raises(MemoryError):
        evaluate(trainer, [[0, 1]])
    assert read(tmp_path, "results_val") == [{"image_id": i, "caption": CAPTIONS[i]} for i in (0, 1)]
