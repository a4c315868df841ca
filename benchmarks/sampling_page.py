"""The page of ``benchmarks.sampling``, from the lines it kept."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from benchmarks.timing import machine, precision
from ladic.metrics.functional.bootstrap import mean_of, paired_bootstrap

Entry = dict[str, Any]


def page(benches: dict[str, list[Entry]], command: str, left: dict[str, list[str]]) -> str:
    """All tables of every run.

    Args:
        benches: entries by run.
        command: what made them.
        left: cells by run that there was no time for.
    """
    lines = [
        "# Samplers, steps, guidance, Back&Refine and candidates",
        "",
        f"Made by `{command}`.",
        "",
        f"- {'; '.join(', '.join(dict.fromkeys(values)) for values in measured(benches))}",
        "- CIDEr-D of the first validation pictures, with the document frequencies of the whole split's references",
        "- NFE is counted by the code, for each candidate; what choosing takes is counted by itself",
        "",
    ]
    for name, entries in benches.items():
        if not entries:
            continue
        groups = {
            group: [entry for entry in entries if entry["cell"]["group"] == group]
            for group in ("samplers", "guidance", "back", "candidates")
        }
        first = entries[0]
        lines += [
            f"## {name}",
            "",
            f"{first['images']} pictures, seed {first['seed']}, commit {first['commit']}, batch {first['batch']}.",
            "",
            *grid("Samplers by steps: one sample, no guidance", groups["samplers"]),
            *grid("With guidance", groups["guidance"], scaled=True),
            *back_table(groups["back"], groups["samplers"]),
            *candidate_table(groups["candidates"]),
        ]
        if left.get(name):
            lines += [f"Not measured for lack of time: {'; '.join(left[name])}.", ""]
    return "\n".join(lines)


def measured(benches: dict[str, list[Entry]]) -> list[list[str]]:
    """Machines, precisions and days of all entries; those of now where an older line doesn't tell."""
    now = {"machine": machine(), "precision": precision(), "date": datetime.date.today().isoformat()}
    entries = [entry for each in benches.values() for entry in each]
    return [[str(entry.get(name, told)) for entry in entries] or [told] for name, told in now.items()]


def grid(title: str, entries: list[Entry], scaled: bool = False) -> list[str]:
    """Rows by sampler (and scale), columns by steps; the counted NFE beside each score."""
    if not entries:
        return []
    columns = sorted({entry["cell"]["steps"] for entry in entries})
    rows: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        cell = entry["cell"]
        label = f"{cell['name']}, scale {cell['scale']}" if scaled else cell["name"]
        rows.setdefault(label, {})[cell["steps"]] = entry
    lines = [
        f"### {title}",
        "",
        f"| | {' | '.join(f'{steps} step' + 's' * (steps > 1) for steps in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for label, found in rows.items():
        told = [f"{found[s]['cider']:.3f} (NFE {found[s]['nfe']})" if s in found else "" for s in columns]
        lines.append(f"| {label} | {' | '.join(told)} |")
    error = np.mean([standard_error(entry) for entry in entries])
    note = f"Standard error of a cell about {error:.3f}; all cells are of the same pictures."
    return [*lines, "", note, ""]


def standard_error(entry: Entry) -> float:
    scores = np.array(entry["per_image"])
    return float(scores.std(ddof=1) / len(scores) ** 0.5)


def back_table(entries: list[Entry], plain: list[Entry]) -> list[str]:
    """Back&Refine beside the same sampler alone at the NFE nearest to its own, with the paired difference."""
    backs = [entry for entry in entries if "BackAndRefine" in entry["cell"]["sampler"]]
    alone = [entry for entry in [*entries, *plain] if entry not in backs]
    lines = [
        "### Back&Refine at equal NFE",
        "",
        "| setting | NFE | CIDEr-D | the sampler alone: NFE | CIDEr-D | difference, 95 % |",
        "|---|---|---|---|---|---|",
    ]
    differences = []
    for entry in backs:
        cell = entry["cell"]
        same = [other for other in alone if other["cell"]["sampler"] == cell["name"].split(",")[0]]
        if not same:
            continue
        nearest = min(same, key=lambda other: abs(other["nfe"] - entry["nfe"]))
        mine, theirs = (np.array(each["per_image"]) for each in (entry, nearest))
        found = paired_bootstrap(mean_of(theirs), mean_of(mine), len(mine))
        differences.append((entry["cider"] - nearest["cider"], found))
        lines.append(
            f"| {cell['name']}, {cell['steps']} steps | {entry['nfe']} | {entry['cider']:.3f} | {nearest['nfe']} "
            f"| {nearest['cider']:.3f} | {differences[-1][0]:+.3f} ({found.low:+.3f} to {found.high:+.3f}) |"
        )
    if not differences:
        return []
    better, worse = sum(found.low > 0 for _, found in differences), sum(found.high < 0 for _, found in differences)
    mean = np.mean([difference for difference, _ in differences])
    note = (
        f"Of {len(differences)} comparisons Back&Refine is better beyond chance in {better} and worse in {worse}; "
        f"the mean difference is {mean:+.3f}."
    )
    return [*lines, "", note, ""]


def candidate_table(entries: list[Entry]) -> list[str]:
    """Rows by steps, guidance and selector, columns by candidates; a single sample first, the mean over all drawn."""
    single = {drawn_by(entry): entry for entry in entries if entry["cell"]["candidates"] == 1}
    many = [entry for entry in entries if entry["cell"]["candidates"] > 1]
    if not many:
        return []
    counts = sorted({entry["cell"]["candidates"] for entry in many})
    rows: dict[tuple[str, str], dict[int, Entry]] = {}
    for entry in many:
        rows.setdefault((drawn_by(entry), entry["cell"]["selector"]), {})[entry["cell"]["candidates"]] = entry
    lines = [
        "### Candidates of Renoise, by who chooses",
        "",
        f"| | 1 | {' | '.join(map(str, counts))} | NFE of choosing among {counts[-1]}, a picture |",
        f"|---|---|{'---|' * (len(counts) + 1)}",
    ]
    for (drawn, selector), found in rows.items():
        one = f"{single[drawn]['cider']:.3f}" if drawn in single else ""
        told = [f"{found[count]['cider']:.3f}" if count in found else "" for count in counts]
        spent = f"{found[counts[-1]]['selection_nfe']:.0f}" if counts[-1] in found else ""
        name = selector if selector != "own" else next(iter(found.values()))["chooser"]
        lines.append(f"| {drawn}, {name} | {one} | {' | '.join(told)} | {spent} |")
    error = np.mean([standard_error(entry) for entry in many])
    return [*lines, "", f"Standard error of a cell about {error:.3f}.", ""]


def drawn_by(entry: Entry) -> str:
    """How an entry's candidates were drawn."""
    cell = entry["cell"]
    guided = f", scale {cell['scale']}" if cell["scale"] != 1 else ""
    return f"{cell['steps']} steps{guided} (NFE {entry['nfe']})"
