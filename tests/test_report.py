"""``ladic report``: one page of pictures, captions and truth, that no caption can write into."""

import io
import json
import re
import shutil
from html import unescape

import pytest
from PIL import Image
from tiny_run import error_line, karpathy_tree, tiny_config, write_config

from ladic.plots import length_figure


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def test_the_report_is_one_page_with_pictures_captions_and_truth(cli, trained, tmp_path):
    config, page = trained.parent / "tiny.yaml", tmp_path / "page.html"
    done = cli("report", trained, "-c", config, "--split=val", "--images=4", "--output", page)
    assert done.code == 0
    assert f"wrote {page}" in done.stdout
    html = page.read_text()
    results = json.loads((trained / "results_val.json").read_text())
    for entry in results:
        assert f'alt="{entry["image_id"]}"' in html
        assert (entry["caption"] or "(empty)") in html
        assert entry["image_id"] in done.stdout
    assert html.count("data:image/png;base64,") == 6  # four pictures, the curves and the lengths
    assert "not named: " in html
    assert "CIDEr-D" in html
    assert "other image's caption" in unescape(html)  # the control stands beside the score
    assert "_shuffled" not in html
    assert not re.search(r"(src|href)=\"(?!data:)|https?://|<script|@import|url\(", html)


def test_the_report_shows_the_best_the_worst_and_random_images(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    rows = json.loads((run / "per_image_val.json").read_text())
    for row, cider in zip(rows, (0.5, 2.5, 0.02, 1.0), strict=True):
        row["scores"]["CIDEr-D"] = cider
    (run / "per_image_val.json").write_text(json.dumps(rows))
    scores = json.loads((run / "scores_val.json").read_text())
    scores["scores"]["METEOR"], scores["unavailable"] = None, {"METEOR": "there is no <Java>"}
    (run / "scores_val.json").write_text(json.dumps(scores))
    done = cli("report", run, "-c", trained.parent / "tiny.yaml", "--split=val", "--images=3")
    headings = re.findall(r"^(\w.*):\n  \S+ (\S+):", done.stdout, re.MULTILINE)
    assert headings[:2] == [("Best by CIDEr-D", "val-000001"), ("Worst by CIDEr-D", "val-000002")]
    assert headings[2][0] == "Random"
    html = (run / "report.html").read_text()
    assert html.count('class="card small"') == 3  # nobody twice
    assert "val-000001 · CIDEr-D 250.00 · BLEU-4 " in html
    assert "METEOR: null, because there is no &lt;Java&gt;" in html
    for fact in ("DDIMSampler(num_steps=2, eta=0.0, spacing=uniform)", "noise 0, seed_everything 0"):
        assert fact in html


def test_a_run_without_scores_per_image_is_shown_in_random_order(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "per_image_val.json").unlink()
    old = json.loads((run / "scores_val.json").read_text())
    kept = {name: old[name] for name in ("scores", "images", "step", "seconds")}  # what version 0.0 wrote
    (run / "scores_val.json").write_text(json.dumps(kept))
    done = cli("report", run, "-c", trained.parent / "tiny.yaml", "--split=val")
    assert done.code == 0
    assert "Random:" in done.stdout
    assert "Best" not in done.stdout


def test_a_report_with_the_wrong_configuration_says_so(cli, trained, tmp_path):
    config = tiny_config(tmp_path)
    config["data"] = karpathy_tree(tmp_path)
    done = cli("report", trained, "-c", write_config(tmp_path, config), "--split=val")
    assert "none of its 4 val captions is for a picture of" in error_line(done.stderr)


def test_the_figure_of_lengths_takes_captions_and_paragraphs():
    for captions, references in (([0], [12, 9]), ([0, 0], [0]), ([250, 3], [60] * 5)):
        with Image.open(io.BytesIO(length_figure(captions, references))) as image:
            assert image.size == (1100, 330)


def test_a_caption_cannot_write_into_the_page(cli, trained, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for file in [trained / "scores_val.json", next(trained.rglob("metrics.csv"))]:
        (run / file.name).write_text(file.read_text())
    evil = [{"image_id": "val-000000", "caption": "<script>alert('a red circle')</script>"}]
    (run / "results_val.json").write_text(json.dumps(evil))
    assert cli("report", run, "-c", trained.parent / "tiny.yaml", "--split=val").code == 0
    html = (run / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_photographs_have_no_truth_marks(cli, tmp_path):
    config = tiny_config(tmp_path)
    config["data"] = karpathy_tree(tmp_path)
    file = write_config(tmp_path, config)
    assert cli("fit", "-c", file, "--trainer.val_check_interval=1").code == 0
    assert cli("report", tmp_path / "run", "-c", file, "--split=val").code == 0
    html = (tmp_path / "run" / "report.html").read_text()
    assert "<li>a picture of number 3</li>" in html
    assert "✓" not in html
    assert "not named" not in html


def test_a_report_of_nothing_says_what_to_run(cli, config, tmp_path):
    done = cli("report", tmp_path / "gone", "-c", config)
    assert done.code == 2
    assert "no results_test.json in it; run `ladic test`" in error_line(done.stderr)
