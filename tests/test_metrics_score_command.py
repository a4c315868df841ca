"""``ladic score`` in process: every layout of files, two systems, ranges of lengths, and bad input in one line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from test_metrics_golden import CAPTIONS, CORPUS, PER_IMAGE, REFERENCES

from ladic.cli.score import main
from ladic.errors import UsageError
from ladic.metrics.caption_files import read_captions, read_ids, read_references
from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.bootstrap import mean_of, paired_bootstrap
from ladic.metrics.functional.by_length import bleu_by_length
from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.metrics.functional.clip_score import clip_score
from ladic.metrics.picture_files import find_pictures

# The images of the golden set by number and by COCO's kind of file name.
NUMBER = {name: 100 + i for i, name in enumerate(CAPTIONS)}
FILE = {name: f"COCO_val2014_{NUMBER[name]:012d}.jpg" for name in CAPTIONS}
EXACT = ["--metrics", "bleu,rouge,cider"]


def coco_results(key=NUMBER):
    return [{"image_id": key[name], "caption": caption} for name, caption in CAPTIONS.items()]


def references_as(layout):
    if layout == "coco":
        rows = [(name, text) for name, texts in REFERENCES.items() for text in texts]
        return {
            "images": [{"id": NUMBER[name], "file_name": FILE[name]} for name in REFERENCES],
            "annotations": [{"id": i, "image_id": NUMBER[n], "caption": text} for i, (n, text) in enumerate(rows)],
        }
    if layout == "karpathy":
        images = [
            {
                "filename": FILE[name],
                "filepath": "val2014",
                "cocoid": NUMBER[name],
                "imgid": 7 * i,
                "split": "test",
                "sentences": [{"raw": text, "tokens": []} for text in texts],
            }
            for i, (name, texts) in enumerate(REFERENCES.items())
        ]
        other = {"filename": "other.jpg", "cocoid": 1, "imgid": 1, "split": "restval", "sentences": [{"raw": "a"}]}
        return {"images": [*images, other], "dataset": "coco"}
    if layout == "albef":
        return [{"image": f"val2014/{FILE[name]}", "caption": texts} for name, texts in REFERENCES.items()]
    if layout == "paragraph":
        return [{"image_id": NUMBER[n], "paragraph": text} for n, texts in REFERENCES.items() for text in texts]
    assert layout == "plain"
    return {str(NUMBER[name]): texts for name, texts in REFERENCES.items()}


@pytest.fixture
def save(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return str(path)

    return write


@pytest.mark.parametrize("layout", ["coco", "karpathy", "albef", "paragraph", "plain"])
def test_every_layout_gives_the_golden_scores(layout, save, tmp_path, capsys):
    out = tmp_path / "out" / "scores.json"
    arguments = [save("results.json", coco_results()), "--references", save("refs.json", references_as(layout))]
    assert main([*arguments, *EXACT, "--json", str(out)]) == 0
    scores = json.loads(out.read_text())["systems"][0]["scores"]
    assert scores == {name: pytest.approx(CORPUS[name], abs=1e-9) for name in CORPUS if name != "METEOR"}
    table = capsys.readouterr().out
    assert "9 images, 23 references, tokenizer ptb" in table
    assert f"CIDEr-D{100 * CORPUS['CIDEr-D']:>18.2f}" in table


@pytest.mark.parametrize(
    "results",
    [
        [{"image": FILE[name], "caption": [text]} for name, text in CAPTIONS.items()],
        {str(NUMBER[name]): text for name, text in CAPTIONS.items()},
        {FILE[name]: text for name, text in CAPTIONS.items()},
        {FILE[name][:-4]: text for name, text in CAPTIONS.items()},
        "\n".join(json.dumps({"image_id": f"{NUMBER[name]:06d}", "caption": text}) for name, text in CAPTIONS.items()),
        {"images": [{"filename": FILE[name], "sentences": [{"raw": text}]} for name, text in CAPTIONS.items()]},
    ],
    ids=["albef", "numbers", "files", "stems", "lines", "karpathy"],
)
def test_images_are_found_by_any_of_their_names(results, save, capsys):
    assert (
        main([save("results.json", results), "--references", save("refs.json", references_as("karpathy")), *EXACT]) == 0
    )
    assert f"{100 * CORPUS['BLEU-4']:.2f}" in capsys.readouterr().out


def test_per_image_csv(save, tmp_path):
    out = tmp_path / "images.csv"
    main(
        [
            save("r.json", coco_results()),
            "--references",
            save("g.json", references_as("coco")),
            *EXACT,
            "--csv",
            str(out),
        ]
    )
    rows = {int(row["image_id"]): row for row in csv.DictReader(out.open(newline=""))}
    assert len(rows) == len(CAPTIONS)
    for name, values in PER_IMAGE.items():
        assert rows[NUMBER[name]]["caption"] == CAPTIONS[name]
        for metric in ("BLEU-2", "ROUGE-L", "CIDEr-D"):
            assert float(rows[NUMBER[name]][metric]) == pytest.approx(values[metric], abs=1e-9)


def test_two_systems(save, tmp_path, capsys):
    worse = [{**row, "caption": " ".join(reversed(row["caption"].split()))} for row in coco_results()]
    out, picture = tmp_path / "s.json", tmp_path / "lengths.png"
    arguments = [save("better.json", coco_results()), "--references", save("g.json", references_as("albef")), *EXACT]
    arguments += ["--compare", save("worse.json", worse), "--draws", "200", "--json", str(out)]
    arguments += ["--by-length", "--length-edges", "5,8", "--length-of", "candidate", "--plot", str(picture)]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "B - A" in table
    assert "BLEU by length of the candidate" in table
    assert picture.read_bytes().startswith(b"\x89PNG")
    data = json.loads(out.read_text())
    assert data["bootstrap"]["scores"]["BLEU-1"] == {"low": 0.0, "high": 0.0, "p_value": 1.0}  # the words are the same
    bleu_4 = data["bootstrap"]["scores"]["BLEU-4"]
    assert bleu_4["low"] < data["systems"][1]["scores"]["BLEU-4"] - data["systems"][0]["scores"]["BLEU-4"] < 0
    assert [each["words"] for each in data["systems"][0]["bleu_by_length_of_candidate"]] == ["0-4", "8+"]
    assert main(arguments) == 0
    assert json.loads(out.read_text()) == data  # the same seed, the same draws


def test_the_bootstrap_knows_a_difference_from_noise():
    draw = np.random.default_rng(0)
    base, noise = draw.normal(size=400), draw.normal(size=400)
    sure = paired_bootstrap(mean_of(base), mean_of(base + 0.2 + 0.1 * noise), 400)
    unsure = paired_bootstrap(mean_of(base), mean_of(base + noise - noise.mean()), 400)
    assert sure.p_value < 0.01
    assert 0.18 < sure.low < 0.2 < sure.high < 0.22
    assert unsure.p_value > 0.5
    # its width is that of the normal approximation
    assert unsure.high - unsure.low == pytest.approx(2 * 1.96 * noise.std() / 20, rel=0.15)


def test_bleu_of_all_lengths_together_is_bleu():
    candidates, references = ["a b c d e", "a b", ""], [["a b c d f"], ["a b c"], ["a"]]
    whole = bleu(candidates, references)
    (one,) = bleu_by_length(candidates, references, edges=[50])
    assert one.bleu == tuple(whole.corpus)
    assert [each.label for each in bleu_by_length(candidates, references, edges=[2, 5])] == ["0-1", "2-4", "5+"]
    with pytest.raises(ValueError, match="must increase"):
        bleu_by_length(candidates, references, edges=[5, 2])


def test_a_split_and_a_list_of_images(save, capsys):
    refs = save("refs.json", references_as("karpathy"))
    results = save("results.json", [*coco_results(), {"image_id": 1, "caption": "a"}])
    assert main([results, "--references", refs, *EXACT]) == 0  # both splits have captions
    assert "10 images" in capsys.readouterr().out
    with pytest.raises(UsageError, match="1 of 10 captions are for an image id that the references don't have: 1"):
        main([results, "--references", refs, "--split", "test", *EXACT])
    only = save("only.json", sorted(NUMBER.values())[:4])
    assert main([results, "--references", refs, "--only", only, *EXACT]) == 0
    assert "4 images" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no such split; its splits are test, train"):
        main([results, "--references", refs, "--split", "val", *EXACT])


def bad(results=None, references=None, *more):
    return results, references, more


@pytest.mark.parametrize(
    ("results", "references", "more", "words"),
    [
        (coco_results()[1:], None, [], "1 of 9 images have references but no caption: 100; .*--partial"),
        ([*coco_results(), {"image_id": 5, "caption": "x"}], None, [], "1 of 10 captions are for an image id .*: 5"),
        (
            [*coco_results(), {"image_id": 100, "caption": "x"}],
            None,
            [],
            "1 captions are for an image that has another",
        ),
        ("", None, [], "the file is empty"),
        ("[]", None, [], "no image with a caption in it; accepted are COCO, Karpathy"),
        ("{not json", None, [], "not JSON"),
        ('["a dog"]', None, [], r"row 0 \(from 0\) has no image id or no text"),
        ([{"image_id": 1}], None, [], r"row 0 \(from 0\) has no image id or no text"),
        (references_as("albef"), None, [], "9 images don't have one caption: .*; is this a file of references"),
        (None, "[]", [], "no image with a caption in it"),
        (
            None,
            [{"image_id": NUMBER[n], "caption": []} for n in NUMBER],
            [],
            "9 of 9 images have no list of references",
        ),
        (None, None, ["--metrics", "bleau"], "--metrics bleau: there are bleu, "),
        (None, None, ["--length-edges", "9,8"], "--length-edges: increasing whole numbers"),
        (None, None, ["--draws", "5"], "--draws 5: an interval needs at least 100"),
        (None, None, ["--split", "test"], "no such split; this file has no splits"),
        (
            None,
            None,
            ["--metrics", "bertscore", "--bert-model", "tiny"],
            "--bert-model tiny: say --bert-layers as well",
        ),
        (None, None, ["--tokenizer", "java", "--java-package", "nowhere"], "--tokenizer java: .*isn't there"),
        (None, None, ["--document-frequencies", "nowhere"], "--document-frequencies nowhere: "),
        (None, None, ["--plot", "lengths.xyz"], "lengths.xyz: can't be written"),
        (None, None, ["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_told_in_one_line(results, references, more, words, save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = save("results.json", coco_results() if results is None else results)
    wanted = save("refs.json", references_as("plain") if references is None else references)
    with pytest.raises(UsageError, match=words) as caught:
        main([given, "--references", wanted, *EXACT, *more])
    assert "\n" not in str(caught.value)


def test_partial_and_missing_files(save, capsys):
    some, refs = save("some.json", coco_results()[:3]), save("refs.json", references_as("plain"))
    assert main([some, "--references", refs, *EXACT, "--partial"]) == 0
    assert "3 images" in capsys.readouterr().out
    with pytest.raises(UsageError, match="there is no such file"):
        main([some, "--references", "nowhere.json"])
    others = save("others.json", coco_results()[2:5])
    with pytest.raises(UsageError, match=r"4 images are in only one of .*--partial compares the others"):
        main([some, "--references", refs, *EXACT, "--compare", others])
    assert main([some, "--references", refs, *EXACT, "--compare", others, "--partial"]) == 0
    assert "1 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("42\n", {42}),
        ('"a b.jpg"', {"a b.jpg"}),
        ("a b.jpg\r\n 000042 \n\nc.jpg", {"a b.jpg", 42, "c.jpg"}),
        ("[1, 2]", {1, 2}),
    ],
)
def test_ids_are_a_list_or_stand_one_a_line(text, ids, save):
    assert read_ids(save("only", text)) == ids
    with pytest.raises(UsageError, match="a list of image ids was expected"):
        read_ids(save("only", '{"1": "a"}'))


LINES = ['{"image_id": 1, "caption": "a\u2028dog"}', '{"image_id": 2, "caption": "a café"}']


@pytest.mark.parametrize(
    ("data", "captions", "cut"),
    [
        (LINES[0], {1: "a\u2028dog"}, False),
        ("\n".join(LINES), {1: "a\u2028dog", 2: "a café"}, False),
        ("\n".join(LINES)[:-5], {1: "a\u2028dog"}, True),
        ("\n".join(LINES).encode()[:-3], {1: "a\u2028dog"}, True),  # within the last letter
        ('{"file_name": "x.jpg", "caption": "a dog"}\n', {"x.jpg": "a dog"}, False),
    ],
)
def test_lines_of_a_run_that_was_stopped(data, captions, cut, tmp_path, capsys):
    file = tmp_path / "predictions.0.jsonl"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert read_captions(file) == captions
    assert capsys.readouterr().err == (f"note: {file}: its last line is cut off and left out\n" if cut else "")


@pytest.mark.parametrize("text", [LINES[0][:-3], f"{LINES[0][:-3]}\n{LINES[1]}", f"{LINES[0]}\n{LINES[1][:-3]}\n"])
def test_other_damaged_lines_are_refused(text, save):
    with pytest.raises(UsageError, match="not JSON"):
        read_captions(save("r.jsonl", text))


def test_damaged_frequencies_are_told(save, tmp_path):
    words = [save("r.json", coco_results()), "--references", save("g.json", references_as("plain")), *EXACT]
    file = tmp_path / "f.json.gz"
    DocumentFrequencies.from_references([["a dog"], ["a cat"]]).save(file)
    whole = file.read_bytes()
    for damaged in (whole[:20] + b"\xff\xff\xff" + whole[23:], whole[:-20], b"none"):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"--document-frequencies .*holds no document frequencies"):
            main([*words, "--document-frequencies", str(file)])


def test_what_cannot_be_had_is_null_in_the_table(save, tmp_path, capsys):
    arguments = [save("r.json", coco_results()), "--references", save("g.json", references_as("plain"))]
    assert main([*arguments, "--metrics", "bleu,meteor", "--java-package", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{'METEOR':<16}{'null':>9}" in out
    assert "METEOR: null, because" in out


class Colours:
    """A stand-in for CLIP: a picture has the features of its colour, a text those of its length."""

    def __init__(self, model, weights):
        assert (model, weights) == ("ViT-B-32-quickgelu", "openai")

    def image_features(self, images):
        return np.array([image.getpixel((0, 0)) for image in images], np.float64)

    def text_features(self, texts):
        return np.array([[len(text), 1, 9] for text in texts], np.float64)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures" / "val2014"
    folder.mkdir(parents=True)
    for name, number in NUMBER.items():
        Image.new("RGB", (2, 2), (number, 7, 200)).save(folder / FILE[name].replace(".jpg", ".png"))
    return folder.parent


@pytest.mark.parametrize("key", [NUMBER, {name: file.replace(".jpg", ".png") for name, file in FILE.items()}])
def test_clip_score_finds_the_pictures(key, save, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ladic.metrics.clip_score.ClipFeatures", Colours)
    refs = save("refs.json", {key[name]: texts for name, texts in REFERENCES.items()})
    results = save("results.json", coco_results(key))
    out = tmp_path / "scores.csv"
    assert main([results, "--references", refs, *EXACT, "--images", str(pictures), "--csv", str(out)]) == 0
    assert "RefCLIPScore" in capsys.readouterr().out
    rows = list(csv.DictReader(out.open()))
    clip = Colours("ViT-B-32-quickgelu", "openai")
    for name, row in zip(sorted(NUMBER, key=lambda n: str(key[n])), rows, strict=True):
        said = clip.text_features(["A photo depicts " + CAPTIONS[name]])
        assert float(row["CLIPScore"]) == pytest.approx(clip_score([[NUMBER[name], 7, 200]], said)[0])


def test_the_references_say_which_file_an_id_is(save, pictures, monkeypatch):
    entries = read_references(save("refs.json", references_as("karpathy")))
    ids = [7 * i for i in range(len(REFERENCES))]  # imgid, which no file is named for
    assert [file.stem for file in find_pictures(pictures, [100, 103], entries).values()] == [
        "COCO_val2014_000000000100", "COCO_val2014_000000000103",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"9 of 9 images have no picture among its 9: 0, 7, 14, 21, 28"):
        find_pictures(pictures, ids)
    for file in list(pictures.rglob("*.png")):
        file.rename(file.with_suffix(".jpg"))  # as the references name them
    found = find_pictures(pictures, ids, entries)
    assert [file.name for file in found.values()] == list(FILE.values())


def test_what_clip_score_lacks(save, pictures, tmp_path, capsys):
    words = [save("r.json", coco_results()), "--references", save("g.json", references_as("plain")), *EXACT]
    weights = ["--clip-weights", str(tmp_path / "nowhere.pt")]
    assert main([*words, "--images", str(pictures), *weights]) == 0
    out = capsys.readouterr().out
    assert "CLIPScore, RefCLIPScore: null, because CLIPScore needs the weights" in out
    with pytest.raises(UsageError, match=r"--images .*gone: there is no such folder"):
        main([*words, "--images", str(tmp_path / "gone")])
    next(pictures.rglob("*100.png")).unlink()
    with pytest.raises(UsageError, match="1 of 9 images have no picture among its 8: 100"):
        main([*words, "--images", str(pictures)])


def test_the_same_caption_twice_is_one(save):
    path = save("r.json", [*coco_results(), *coco_results()])
    assert len(read_captions(path)) == len(CAPTIONS)
    merged = read_references(save("g.json", references_as("paragraph"))).named_like(NUMBER.values())
    assert {NUMBER[name]: texts for name, texts in REFERENCES.items()} == merged
