"""Components describe themselves in plain values and are built from the description."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladic.components import CosineSchedule, DDIMSampler, LinearSchedule, NoiseSchedule, Sampler, ShiftedSchedule
from ladic.errors import UsageError
from ladic.spec import Buildable, build, class_path, describe


class Holder(Buildable):
    """Takes anything, positionally, by keyword and beyond its signature."""

    def __init__(self, first: Any = None, second: Any = 2, **rest: Any) -> None:
        self.values = {"first": first, "second": second, **rest}


class Deeper(Holder):
    def __init__(self, depth: int) -> None:
        super().__init__(first=depth * 10, second="inner")


class Inheriting(Holder):
    pass


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(first=VALUES, second=VALUES, rest=st.dictionaries(st.text(min_size=1), VALUES, max_size=2))
def test_build_undoes_describe_for_plain_values(first: Any, second: Any, rest: dict[str, Any]) -> None:
    rest = {name: value for name, value in rest.items() if name not in ("self", "first", "second")}
    made = Holder(first, second=second, **rest)
    spec = describe(made)
    again = build(json.loads(json.dumps(spec)), Holder)
    assert again.values == made.values
    assert describe(again) == spec


@given(steps=st.integers(1, 1000), eta=st.floats(0, 1))
def test_positional_and_keyword_arguments_describe_alike(steps: int, eta: float) -> None:
    made = [DDIMSampler(steps, eta), DDIMSampler(steps, eta=eta), DDIMSampler(eta=eta, num_steps=steps)]
    assert all(describe(sampler) == describe(made[0]) for sampler in made)
    again = build(describe(made[0]), Sampler)
    assert (type(again), again.num_steps, again.eta) == (DDIMSampler, steps, eta)  # type: ignore[attr-defined]


def test_components_among_the_arguments_are_described_and_built_too() -> None:
    made = ShiftedSchedule(ShiftedSchedule(LinearSchedule(num_steps=50), factor=3.0), 2.0)
    spec = describe(made)
    assert spec["class_path"] == "ladic.components.noise_schedules.shifted.ShiftedSchedule"
    inner = build(json.loads(json.dumps(spec)), NoiseSchedule).schedule.schedule  # type: ignore[type-abstract, attr-defined]
    assert isinstance(inner, LinearSchedule)
    assert inner.num_steps == 50


def test_components_in_lists_and_mappings_are_built() -> None:
    made = Holder([CosineSchedule(0.1), 1], {"walk": DDIMSampler(3)})
    values = build(describe(made), Holder).values
    assert values["first"][0].s == 0.1
    assert values["second"]["walk"].num_steps == 3


def test_the_outermost_class_records_its_own_arguments() -> None:
    assert describe(Deeper(4)) == {"class_path": class_path(Deeper), "init_args": {"depth": 4}}
    assert build(describe(Deeper(4)), Holder).values == {"first": 40, "second": "inner"}
    assert describe(Inheriting(1))["init_args"] == {"first": 1, "second": 2}


def test_defaults_are_recorded_so_that_changing_one_leaves_old_checkpoints_alone() -> None:
    assert describe(DDIMSampler()) == describe(DDIMSampler(num_steps=10, eta=0.0))
    assert describe(DDIMSampler())["init_args"] == {"num_steps": 10, "eta": 0.0, "spacing": "uniform"}


def test_paths_and_tuples_become_plain() -> None:
    assert describe(Holder(Path("a/b"), (1, (2,))))["init_args"] == {"first": "a/b", "second": [1, [2]]}


def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="a partial can't be written into a checkpoint"):
        describe(Holder(functools.partial(print)))


def test_overrides_replace_described_arguments() -> None:
    made = build(describe(DDIMSampler(5, 0.5)), Sampler, {"num_steps": 9})
    assert (made.num_steps, made.eta) == (9, 0.5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("subprocess.Popen", "'subprocess.Popen' is not a Sampler"),
        ("os.system", "'os.system' is not a Sampler"),
        ("builtins.eval", "'builtins.eval' is not a Sampler"),
        ("ladic.components.CosineSchedule", "is not a Sampler"),
        ("ladic.components.NoSuchSampler", "can't be imported .*install the package that provides it"),
        ("no_such_package_here.Sampler", "can't be imported .*install the package that provides it"),
        ("DDIMSampler", "'DDIMSampler' can't be imported"),
    ],
)
def test_nothing_but_components_of_the_kind_is_built(path: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build({"class_path": path, "init_args": {}}, Sampler)


def test_a_foreign_class_deep_inside_is_refused() -> None:
    harmful = {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}
    spec = {"class_path": class_path(ShiftedSchedule), "init_args": {"schedule": harmful}}
    with pytest.raises(UsageError, match=r"'subprocess\.Popen' is not a Buildable"):
        build(spec, NoiseSchedule)
