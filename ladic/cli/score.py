"""``ladic score``: score a file of captions, of any system, against references.

ladic score runs/a --compare runs/b
ladic score results.json --references dataset_coco.json --split test
ladic score ours.json --references refs.json --compare theirs.json --by-length --plot lengths.png
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ladic import __version__
from ladic.cli.parser import LineParser
from ladic.cli.run_folders import run_file
from ladic.errors import UsageError
from ladic.metrics.caption_files import LAYOUTS, References, read_captions, read_ids, read_references
from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.bootstrap import CorpusScore, Difference, mean_of, paired_bootstrap
from ladic.metrics.functional.by_length import EDGES, LengthBin, bleu_by_length
from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.mean import mean
from ladic.metrics.picture_files import find_pictures
from ladic.metrics.scoring import METRICS, TOKENIZERS, ImageId, Scores, score_captions

if TYPE_CHECKING:
    from argparse import Namespace

DEFAULT_METRICS = [name for name in METRICS if name != "bertscore"]  # it loads a large model
# Shown as papers print them, times 100; these are shown as they are.
_AS_IS = ("Length ratio", "Brevity penalty", "Mean length", "distinct", "Repetition", "Stutter")
_CLIP_BATCH = 64
_FEW = 30  # images below which a corpus score says little
# Corpus scores that are means over images; METEOR's isn't, and has no interval.
_MEANS = ("ROUGE-L", "CIDEr-D", "SPICE", "BERTScore", "Repetition", "Stutter", "CLIPScore", "RefCLIPScore")


def main(argv: list[str]) -> int:
    """Prints a table of scores; 0 also where a metric could not be had, which the table says."""
    options = parse(argv)
    try:
        return run(options)
    except Unavailable as error:  # only --tokenizer java comes here: a missing metric is a null
        raise UsageError(f"--tokenizer {options.tokenizer}: {error}") from error


def parse(argv: list[str]) -> Namespace:
    """The options; raises UsageError for wrong ones."""
    parser = LineParser("ladic score", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("results", metavar="RESULTS.json", help=f"captions: {LAYOUTS}; or the folder of a run that was tested")
    add(
        "--references", metavar="FILE", help="references, in any of these layouts; of a run's folder its own by default"
    )
    add("--split", help="score this split of a references file that has splits (default: the one RESULTS comes from)")
    add("--only", metavar="FILE", help="score these image ids alone: a JSON list or one id a line")
    add("--partial", action="store_true", help="leave references aside whose image has no caption")
    add("--metrics", default=",".join(DEFAULT_METRICS), help=f"comma-separated, of {', '.join(METRICS)}")
    add(
        "--compare",
        metavar="OTHER.json",
        help="a second system's captions, or run: differences with a paired bootstrap",
    )
    add("--draws", type=int, default=1000, help="draws of the bootstrap")
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--by-length", action="store_true", help="also BLEU by caption length")
    add("--length-of", choices=["reference", "candidate"], default="reference", help="whose length --by-length means")
    add("--length-edges", default=",".join(map(str, EDGES)), help="where --by-length starts a new range of words")
    add("--plot", metavar="FILE.png", help="draw --by-length here")
    add("--csv", metavar="FILE", help="write per-image scores here")
    add("--json", metavar="FILE", help="write all scores here")
    add("--tokenizer", choices=TOKENIZERS, default="ptb", help="java checks ptb against COCO's own tool")
    add("--java-package", metavar="DIR", help="pycocoevalcap's folder, for METEOR, SPICE and --tokenizer java")
    add("--bert-model", default="roberta-large", help="for bertscore: a hub name or a local folder")
    add("--bert-layers", type=int, help="for bertscore: the layer compared (17 for roberta-large)")
    add("--images", metavar="FOLDER", help="pictures: adds CLIPScore and RefCLIPScore")
    add("--clip-model", default="ViT-B-32-quickgelu", help="for --images: an open_clip architecture")
    add("--clip-weights", default="openai", help="for --images: an open_clip tag or a checkpoint's path")
    add("--document-frequencies", metavar="FILE", help="for cider: a stored corpus instead of these references")
    options = parser.parse_args(argv)
    if options.references is None:
        if not Path(options.results).is_dir():
            raise UsageError(f"--references: needed beside '{options.results}'; only a run's folder brings its own")
        options.references = run_file(options.results, "references")
    options.results = run_file(options.results, "results")
    options.compare = options.compare and run_file(options.compare, "results")
    options.metrics = [name.strip() for name in options.metrics.split(",") if name.strip()]
    unknown = [name for name in options.metrics if name not in METRICS]
    if unknown or not options.metrics:
        raise UsageError(f"--metrics {','.join(unknown) or repr('')}: there are {', '.join(METRICS)}")
    try:
        options.length_edges = [int(edge) for edge in options.length_edges.split(",")]
    except ValueError:
        options.length_edges = []
    if not options.length_edges or options.length_edges != sorted(set(options.length_edges)):
        raise UsageError("--length-edges: increasing whole numbers with commas between them, such as 9,11,13")
    if options.draws < 100:
        raise UsageError(f"--draws {options.draws}: an interval needs at least 100")
    if (
        options.bert_layers is None
        and "bertscore" in options.metrics
        and Path(options.bert_model).name != "roberta-large"
    ):
        raise UsageError(f"--bert-model {options.bert_model}: say --bert-layers as well, the layer compared")
    return options


def run(options: Namespace) -> int:
    """Scores, prints and writes what the options ask for."""
    files = [options.results] + ([options.compare] if options.compare else [])
    systems = [read_captions(file) for file in files]
    references = read_references(options.references, options.split)
    people = references.named_like(i for system in systems for i in system)
    if options.only:
        wanted = read_ids(options.only)
        people = {i: texts for i, texts in people.items() if i in wanted}
        systems = [{i: text for i, text in system.items() if i in wanted} for system in systems]
    if len(systems) == 2:
        systems = paired(files, systems, options.partial)
    frequencies = None
    if options.document_frequencies:
        try:
            frequencies = DocumentFrequencies.load(options.document_frequencies)
        except (OSError, ValueError) as error:
            raise UsageError(f"--document-frequencies {options.document_frequencies}: {error}") from error
    scored = []
    for file, captions in zip(files, systems, strict=True):
        try:
            scored.append(
                score_captions(
                    captions,
                    people,
                    options.metrics,
                    partial=options.partial,
                    document_frequencies=frequencies,
                    tokenizer=options.tokenizer,
                    java_package=options.java_package,
                    bert_model=options.bert_model,
                    bert_layers=options.bert_layers,
                )
            )
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from error

    if options.images:
        add_clip_scores(scored, systems, people, references, options)
    differences = compare(scored[0], scored[1], options) if len(scored) == 2 else {}
    bins = []
    if options.by_length or options.plot:
        edges, by = options.length_edges, options.length_of
        bins = [bleu_by_length(scores.candidates, scores.references, edges, by=by) for scores in scored]
    show(files, scored, differences)
    for file, ranges in zip(files, bins, strict=bool(bins)):
        show_lengths(file, ranges, options.length_of)
    if options.csv:
        write(options.csv, lambda path: write_csv(path, files, systems, scored))
    if options.json:
        data = as_json(files, scored, differences, bins, options)
        write(options.json, lambda path: path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n"))
    if options.plot:
        write(options.plot, lambda path: draw_lengths(path, files, bins, options.length_of))
    return 0


def paired(files: Sequence[str], systems: list[dict[ImageId, str]], partial: bool) -> list[dict[ImageId, str]]:
    """Both systems on the same images; the common ones if ``partial``."""
    first, second = systems
    odd = [i for i in first if i not in second] + [i for i in second if i not in first]
    if odd and not partial:
        shown = ", ".join(map(str, odd[:5]))
        raise UsageError(
            f"{len(odd)} images are in only one of {files[0]} and {files[1]}: {shown}; --partial compares the others"
        )
    return [{i: text for i, text in system.items() if i in first and i in second} for system in systems]


def add_clip_scores(
    scored: Sequence[Scores],
    systems: Sequence[dict[ImageId, str]],
    people: dict[ImageId, list[str]],
    references: References,
    options: Namespace,
) -> None:
    """Put CLIPScore and RefCLIPScore into the scores of each system, or the reason why they can't be had."""
    names = ("CLIPScore", "RefCLIPScore")
    pictures = find_pictures(options.images, dict.fromkeys(i for system in systems for i in system), references)
    from PIL import Image, UnidentifiedImageError

    from ladic.metrics import clip_score  # torch and open_clip, only when asked for

    try:
        clip = clip_score.ClipFeatures(options.clip_model, options.clip_weights)
    except Unavailable as error:
        for scores in scored:
            scores.corpus.update(dict.fromkeys(names))
            scores.unavailable.update(dict.fromkeys(names, str(error)))
        return
    except ValueError as error:
        raise UsageError(f"--clip-weights {options.clip_weights!r}: {error}") from error
    for scores, captions in zip(scored, systems, strict=True):
        metric = clip_score.CLIPScore(clip)
        ids = list(scores.per_image)
        for start in range(0, len(ids), _CLIP_BATCH):
            batch = ids[start : start + _CLIP_BATCH]
            try:
                images = [Image.open(pictures[i]).convert("RGB") for i in batch]
            except (OSError, UnidentifiedImageError) as error:
                raise UsageError(f"--images {options.images}: {error}") from error
            metric.update([captions[i] for i in batch], [people[i] for i in batch], batch, images)
        numbers = metric.store().numbers
        for i in ids:
            scores.per_image[i].update(numbers[i])
        scores.corpus.update({name: mean(numbers[i][name] for i in ids) for name in names})


def compare(first: Scores, second: Scores, options: Namespace) -> dict[str, Difference]:
    """The interval of each score's difference, where the score of a drawn set is known."""
    names = [n for n, a in first.corpus.items() if a is not None and second.corpus[n] is not None]
    by_name = [corpus_scores(scores, names) for scores in (first, second)]
    return {
        name: paired_bootstrap(by_name[0][name], by_name[1][name], len(first.per_image), options.draws, options.seed)
        for name in by_name[0]
    }


def corpus_scores(scores: Scores, names: Iterable[str]) -> dict[str, CorpusScore]:
    """By name, the score of a set that has each image so many times."""
    counts = bleu(scores.candidates, scores.references).counts

    def bleu_of(n: int) -> CorpusScore:
        return lambda times: counts.corpus(times)[:, n - 1]

    found: dict[str, CorpusScore] = {}
    for name in names:
        if name.startswith("BLEU-"):
            found[name] = bleu_of(int(name[-1]))
        elif name.startswith(_MEANS):
            found[name] = mean_of(np.array([scores.per_image[i][name] for i in scores.per_image]))
    return found


def show(files: Sequence[str], scored: Sequence[Scores], differences: dict[str, Difference]) -> None:
    """The table of scores."""
    first = scored[0]
    count = sum(map(len, first.references))
    print(f"{len(first.per_image)} images, {count} references, tokenizer {first.tokenizer}")
    print("scores times 100, as papers print them; lengths, shares and distinct-n as they are\n")
    if len(scored) == 1:
        print(f"{'':<16}{'score':>9}")
        for name, score in first.corpus.items():
            print(f"{name:<16}{shown(name, score):>9}")
    else:
        print(f"A: {files[0]}\nB: {files[1]}\n")
        print(f"{'':<16}{'A':>9}{'B':>9}{'B - A':>9}   {'95 % interval':<20}{'p':>6}")
        for name, score in first.corpus.items():
            other = scored[1].corpus[name]
            line = f"{name:<16}{shown(name, score):>9}{shown(name, other):>9}"
            if score is not None and other is not None:
                line += f"{shown(name, other - score, sign='+'):>9}"
            if name in differences:
                interval = [shown(name, end, sign="+") for end in (differences[name].low, differences[name].high)]
                line += f"   {f'[{interval[0]}, {interval[1]}]':<20}{differences[name].p_value:>6.3f}"
            print(line)
    missing: dict[str, list[str]] = {}
    for name, reason in first.unavailable.items():
        missing.setdefault(reason, []).append(name)
    for reason, names in missing.items():
        print(f"\n{', '.join(names)}: null, because {reason}")


def show_lengths(file: str, bins: Sequence[LengthBin], length_of: str) -> None:
    """The table of BLEU by length."""
    print(f"\n{file}: BLEU by length of the {length_of}, in words\n")
    print(f"{'words':<10}{'images':>8}" + "".join(f"{f'BLEU-{n}':>9}" for n in range(1, 5)))
    for each in bins:
        print(f"{each.label:<10}{each.images:>8}" + "".join(f"{100 * score:>9.2f}" for score in each.bleu))


def shown(name: str, score: float | None, sign: str = "") -> str:
    """A score as the table has it."""
    if score is None:
        return "null"
    value, digits = (score, 4) if name.startswith(_AS_IS) else (100 * score, 2)
    return format(round(value, digits) + 0.0, f"{sign}.{digits}f")  # + 0.0: no minus before a rounded zero


def write(name: str, how: Any) -> None:
    """Write a file the user named, or say in one line why not."""
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        how(path)
    except (OSError, ValueError) as error:  # ValueError: matplotlib on an ending it doesn't know
        raise UsageError(f"{name}: can't be written: {error}") from error
    print(f"\nwrote {name}")


def write_csv(
    path: Path, files: Sequence[str], systems: Sequence[dict[ImageId, str]], scored: Sequence[Scores]
) -> None:
    """A row per system and image."""
    names = list(dict.fromkeys(name for scores in scored for each in scores.per_image.values() for name in each))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "image_id", "caption", *names])
        for system, captions, scores in zip(files, systems, scored, strict=True):
            for image_id, values in scores.per_image.items():
                row = [repr(values[name]) if name in values else "" for name in names]
                writer.writerow([system, image_id, captions[image_id], *row])


def as_json(
    files: Sequence[str],
    scored: Sequence[Scores],
    differences: dict[str, Difference],
    bins: Sequence[Sequence[LengthBin]],
    options: Namespace,
) -> dict[str, Any]:
    """Everything that was measured, and by what."""
    systems = []
    for i, (file, scores) in enumerate(zip(files, scored, strict=True)):
        system: dict[str, Any] = {"results": file, "scores": scores.corpus, "unavailable": scores.unavailable}
        if bins:
            system[f"bleu_by_length_of_{options.length_of}"] = [
                {"words": each.label, "images": each.images, "bleu": list(each.bleu)} for each in bins[i]
            ]
        systems.append(system)
    data: dict[str, Any] = {
        "references": options.references,
        "split": options.split,
        "images": len(scored[0].per_image),
        "tokenizer": scored[0].tokenizer,
        "versions": {"ladic": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "systems": systems,
    }
    if differences:
        bootstrap = {"draws": options.draws, "seed": options.seed}
        data["bootstrap"] = {**bootstrap, "scores": {name: asdict(each) for name, each in differences.items()}}
    return data


def draw_lengths(path: Path, files: Sequence[str], bins: Sequence[Sequence[LengthBin]], length_of: str) -> None:
    """BLEU-4 by length as a picture: a line per system over the number of images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    labels = list(dict.fromkeys(each.label for ranges in bins for each in sorted(ranges)))
    labels.sort(key=lambda label: int(label.rstrip("+").split("-")[0]))
    for file, ranges in zip(files, bins, strict=True):
        found = {each.label: each for each in ranges}
        at = [i for i, label in enumerate(labels) if label in found]
        values = [100 * found[labels[i]].bleu[3] for i in at]
        (line,) = axes.plot(at, values, label=Path(file).stem)
        few = [found[labels[i]].images < _FEW for i in at]
        colors = ["white" if empty else line.get_color() for empty in few]
        axes.scatter(at, values, c=colors, edgecolors=line.get_color(), zorder=3)
    behind = axes.twinx()
    amounts = {each.label: each.images for each in bins[0]}
    behind.bar(range(len(labels)), [amounts.get(label, 0) for label in labels], color="0.9", width=0.7)
    behind.set_ylabel("images", color="0.5")
    behind.tick_params(axis="y", colors="0.5")
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(f"words in the {length_of}" + (" (mean)" if length_of == "reference" else ""))
    axes.set_ylabel("100 BLEU-4")
    axes.set_ylim(bottom=0)
    axes.set_title(f"hollow: fewer than {_FEW} images", fontsize="small", loc="right", color="0.5")
    if len(files) > 1:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
