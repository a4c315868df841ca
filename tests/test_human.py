"""ladic human: the study's page says nothing of systems, and its analysis is right."""

import json
import re

import numpy as np
import pytest
from tiny_run import error_line, picture, write_json

from ladic.human_study import ASPECTS, analyse, draw_items, make_key
from ladic.metrics.functional.agreement import krippendorff_alpha, pair_correlations

NAN = float("nan")
# Krippendorff 2011, example C: four observers, twelve units. Published there: nominal 0.743, interval 0.849.
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def test_alpha_is_that_of_the_published_example():
    assert krippendorff_alpha(np.array(PUBLISHED), "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(np.array(PUBLISHED)) == pytest.approx(0.849, abs=5e-4)


def test_alpha_at_its_ends():
    assert krippendorff_alpha(np.array([[1, 2, 5.0]] * 3)) == 1
    assert krippendorff_alpha(np.full((3, 4), 2.0)) == 1
    assert np.isnan(krippendorff_alpha(np.array([[1, NAN], [NAN, 2.0]])))
    noise = np.random.default_rng(0).integers(1, 6, (2, 20_000)).astype(float)
    assert abs(krippendorff_alpha(noise)) < 0.02


def test_correlations_are_numpys_over_what_both_rated():
    ratings = np.array(PUBLISHED)
    first, second = ratings[0], ratings[1]
    both = ~np.isnan(first) & ~np.isnan(second)
    found = pair_correlations(ratings)
    assert len(found) == 6
    assert found[0] == pytest.approx(np.corrcoef(first[both], second[both])[0, 1])
    assert pair_correlations(np.array([[1, 1, 1.0], [1, 2, 3.0]])) == []


@pytest.fixture
def files(tmp_path):
    """Captions of three systems for six pictures; two agree on the first one."""
    for number in range(6):
        picture(tmp_path / "photos" / f"img{number}.png", ("red", "green", "blue")[number % 3])
    systems = {"ours": "ours says", "rival": "rival says", "weak": "weak says"}
    for name, text in systems.items():
        rows = [{"image_id": f"img{n}", "caption": f"{text} {n}" if n else "the same words"} for n in range(6)]
        write_json(tmp_path / f"{name}.json", rows)
    return [tmp_path / f"{name}.json" for name in systems]


@pytest.fixture
def study(cli, files, tmp_path):
    done = cli("human", "export", *files, "--images", tmp_path / "photos", "--count=6", "--output", tmp_path / "s")
    assert done.code == 0, done.stderr
    return (tmp_path / "s.html").read_text(), json.loads((tmp_path / "s.key.json").read_text())


def embedded(page):
    return json.loads(re.search(r'id="study">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_has_every_caption_and_no_system(study):
    page, key = study
    content = embedded(page)
    assert len(content["pictures"]) == 6
    items = [item for shown in content["pictures"] for item in shown["items"]]
    assert len(items) == 5 * 3 + 1  # what all three said alike is rated once
    assert {item["token"] for item in items} == set(key["items"])
    assert key["items"][next(i["token"] for i in items if i["caption"] == "the same words")]["systems"] == [
        "ours",
        "rival",
        "weak",
    ]
    without_captions = page.replace("ours says", "").replace("rival says", "").replace("weak says", "")
    assert not re.search(r"\b(ours|rival|weak)\b", without_captions)
    assert "http" not in re.sub(r"data:image/jpeg;base64,[^\"]*", "", page), "nothing is fetched from anywhere"


def test_a_caption_can_not_end_the_script(cli, files, tmp_path):
    nasty = '</script><img src=x onerror="alert(1)">'
    write_json(files[0], [{"image_id": f"img{n}", "caption": nasty} for n in range(6)])
    cli("human", "export", *files, "--images", tmp_path / "photos", "--count=6", "--output", tmp_path / "s")
    page = (tmp_path / "s.html").read_text()
    assert nasty not in page
    assert nasty in {item["caption"] for shown in embedded(page)["pictures"] for item in shown["items"]}


def test_the_draw_depends_on_the_seed_alone(files):
    systems = {name: {i: f"{name} {i}" for i in range(40)} for name in ("a", "b")}
    shuffled = {name: dict(reversed(captions.items())) for name, captions in systems.items()}
    assert draw_items(systems, 10, 1) == draw_items(shuffled, 10, 1) != draw_items(systems, 10, 2)


def rate(key, rater, how):
    """A file of ratings in which ``how(system, number)`` is what each caption gets."""
    ratings = {
        token: dict.fromkeys(ASPECTS, how(item["systems"][0], number))
        for number, (token, item) in enumerate(key["items"].items())
    }
    return {"study": key["study"], "rater": rater, "ratings": ratings}


def test_scores_and_agreement_end_to_end(cli, study, tmp_path):
    _, key = study
    level = {"ours": 4, "rival": 3, "weak": 1}
    for number in range(3):
        content = rate(key, f"rater {number}", lambda system, n: level[system] + (n + number) % 2)  # noqa: B023
        write_json(tmp_path / f"ratings-{number}.json", content)
    words = ["human", "score", *tmp_path.glob("ratings-*.json"), "--key", tmp_path / "s.key.json"]
    done = cli(*words, "--json", tmp_path / "out.json")
    assert done.code == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    rows = [(token, item["systems"]) for token, item in key["items"].items()]
    for system in level:
        given = [
            level[names[0]] + (n + number) % 2
            for number in range(3)
            for n, (_, names) in enumerate(rows)
            if system in names
        ]
        opinion = found["opinions"]["fluency"][system]
        assert opinion["mean"] == pytest.approx(np.mean(given))
        assert opinion["ratings"] == len(given)
        assert opinion["low"] < opinion["mean"] < opinion["high"]
    table = np.array([[level[names[0]] + (n + number) % 2 for n, (_, names) in enumerate(rows)] for number in range(3)])
    assert found["alpha"]["accuracy"] == pytest.approx(krippendorff_alpha(table.astype(float)))
    assert found["correlations"]["accuracy"][1] == 3
    assert "3 raters, 6 pictures" in done.stdout


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Raters and pictures both vary; over 60 studies the middle 95 % should miss a few times, not often."""
    generator, covered = np.random.default_rng(0), 0
    systems = {"a": {i: f"caption {i}" for i in range(12)}}
    key = make_key(draw_items(systems, 12, 0), 0)
    for study in range(60):
        rater, scene = generator.normal(0, 0.4, 8), generator.normal(0, 0.6, 12)
        values = np.clip(np.round(3 + rater[:, None] + scene + generator.normal(0, 0.5, (8, 12))), 1, 5)
        raters = [{t: dict.fromkeys(ASPECTS, row[n]) for n, t in enumerate(key["items"])} for row in values]
        opinion = analyse(raters, key, seed=study).opinions["fluency"]["a"]
        covered += opinion.low <= 3 <= opinion.high
    assert covered >= 50


def test_missing_ratings_are_left_out(study):
    _, key = study
    tokens = list(key["items"])
    half = [{token: {"fluency": 4} for token in tokens[:4]}, {}]
    opinions = analyse(half, key).opinions
    assert {o.mean for o in opinions["fluency"].values() if o.ratings} == {4}
    assert all(o.ratings == 0 for o in opinions["accuracy"].values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "{ours}", "--images", "{photos}", "--count=7", "--output", "{tmp}/x"], "have 6 pictures in common"),
        (
            ["export", "{ours}", "{ours}", "--images", "{photos}", "--names=a", "--output", "{tmp}/x"],
            "need 2 different",
        ),
        (["export", "{ours}", "--output", "{tmp}/x"], "one of the two says where the pictures are"),
        (["export", "{ours}", "--images", "{tmp}/gone", "--count=2", "--output", "{tmp}/x"], "no such folder"),
        (["score", "{tmp}/gone.json", "--key", "{tmp}/s.key.json"], "gone.json: no such file"),
        (["score", "{ours}", "--key", "{tmp}/s.key.json"], "not a file of ratings"),
        (["score", "{ours}", "--key", "{ours}"], "not a key"),
        (["export", "{ours}", "--images", "{photos}", "--output", "."], "--output .: has no name"),
        ([], "the following arguments are required"),
    ],
)
def test_wrong_words_are_one_line(cli, files, study, tmp_path, words, message):
    filled = [word.format(ours=files[0], photos=tmp_path / "photos", tmp=tmp_path) for word in words]
    done = cli("human", *filled)
    assert done.code == 2
    assert message in error_line(done.stderr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(study="other"), "belongs to study 'other'"),
        (lambda c: c["ratings"].update(unknown={"fluency": 3}), "which the key doesn't have"),
        (lambda c: next(iter(c["ratings"].values())).update(fluency=6), "fluency=6"),
        (lambda c: next(iter(c["ratings"].values())).update(fluency="5"), "fluency='5'"),
        (lambda c: next(iter(c["ratings"].values())).update(beauty=3), "beauty=3"),
        (lambda c: c["ratings"].update({next(iter(c["ratings"])): 3}), "3 for '"),
    ],
)
def test_ratings_that_can_not_be_are_refused(cli, study, tmp_path, change, message):
    content = rate(study[1], "a", lambda system, number: 3)
    change(content)
    file = write_json(tmp_path / "r.json", content)
    done = cli("human", "score", file, "--key", tmp_path / "s.key.json")
    assert done.code == 2
    assert message in error_line(done.stderr)


@pytest.mark.parametrize("item", [3, {}, {"image_id": "img0"}, {"image_id": "img0", "systems": []}])
def test_a_key_that_was_cut_is_refused(cli, study, tmp_path, item):
    ratings = write_json(tmp_path / "r.json", rate(study[1], "a", lambda system, number: 3))
    key = write_json(tmp_path / "cut.key.json", {**study[1], "items": {**study[1]["items"], "t": item}})
    assert "its item 't' has no image_id or no systems" in error_line(
        cli("human", "score", ratings, "--key", key).stderr
    )


def test_the_key_of_another_study_stays(cli, files, study, tmp_path):
    words = ["human", "export", *files, "--images", tmp_path / "photos", "--count=6", "--output", tmp_path / "s"]
    told = error_line(cli(*words, "--seed=1").stderr)
    assert "s.key.json' is there, and not the key of this study" in told
    assert told.endswith("choose another --output")
    assert ((tmp_path / "s.html").read_text(), json.loads((tmp_path / "s.key.json").read_text())) == study
    assert cli(*words, "--title=Again").code == 0, "the same study may be written anew"
    (tmp_path / "s.key.json").write_text("no key")
    assert "choose another --output" in error_line(cli(*words).stderr)


def test_numbers_that_there_are_none_of_are_null(cli, study, tmp_path):
    content = rate(study[1], "alone", lambda system, number: 3)
    for given in content["ratings"].values():
        del given["accuracy"]
    words = [write_json(tmp_path / "r.json", content), "--key", tmp_path / "s.key.json", "--json", tmp_path / "o.json"]
    assert cli("human", "score", *words).code == 0
    text = (tmp_path / "o.json").read_text()
    assert "NaN" not in text
    found = json.loads(text)
    assert found["correlations"]["fluency"] == [None, 0]
    assert found["opinions"]["accuracy"]["ours"]["mean"] is None


def test_a_rater_counts_once(cli, study, tmp_path):
    files = [write_json(tmp_path / f"r{n}.json", rate(study[1], "Ann", lambda s, n: 3)) for n in range(2)]
    done = cli("human", "score", *files, "--key", tmp_path / "s.key.json")
    assert "rater 'Ann' comes twice" in error_line(done.stderr)


def test_pictures_can_come_from_a_datamodule(cli, trained, tmp_path):
    results = trained / "results_val.json"
    config = trained.parent / "tiny.yaml"
    words = ["--names=run", "-c", config, "--split=val", "--count=2", "--output", tmp_path / "s"]
    assert cli("human", "export", results, *words).code == 0
    assert embedded((tmp_path / "s.html").read_text())["pictures"][0]["source"].startswith("data:image/jpeg")
    done = cli("human", "export", results, *[w if w != "--split=val" else "--split=test" for w in words])
    assert "has no image 'val-" in error_line(done.stderr)


def test_a_rater_in_a_browser(browser, study, cli, tmp_path):
    """Rates two captions, comes back later, saves; the file is one that the analysis takes."""
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "s.html").as_uri())
    page.fill("#rater", "Ann B.")
    page.click("text=Begin")
    assert page.locator("section").count() == 6
    page.locator("fieldset").nth(0).locator("label").nth(3).click()
    page.locator("fieldset").nth(1).locator("label").nth(0).click()
    assert "2 of 48 given" in page.inner_text("#count")
    page.reload()  # a tab that was closed by mistake
    page.fill("#rater", "Ann B.")
    page.click("text=Begin")
    assert "2 of 48 given" in page.inner_text("#count")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "ratings-Ann_B_.json"
    download.value.save_as(tmp_path / "ratings.json")
    assert problems == []
    values = [
        v for one in json.loads((tmp_path / "ratings.json").read_text())["ratings"].values() for v in one.values()
    ]
    assert sorted(values) == [1, 4]
    assert cli("human", "score", tmp_path / "ratings.json", "--key", tmp_path / "s.key.json").code == 0
    page.close()
