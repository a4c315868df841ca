"""Components remember how they were built, so that a checkpoint can build them again.

A component is described by a *spec*, the same mapping that the command line and the YAML files use::

    {"class_path": "ladic.components.samplers.ddim.DDIMSampler", "init_args": {"num_steps": 10, "eta": 0.0}}

``Buildable`` records the arguments of the outermost constructor call, whether a YAML file or plain Python made it;
``describe`` turns a component (and the components among its arguments) into a spec and ``build`` turns it back.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from ladic.errors import UsageError

T = TypeVar("T")


class Buildable:
    """Mixin of every component base class: records constructor arguments in ``_init_args``."""

    def checkpoint_args(self) -> dict[str, Any]:
        """Constructor arguments with which a checkpoint builds this component again before it loads the weights.

        A component whose arguments name files or a hub overrides this, so that a checkpoint needs neither.
        """
        return dict(self.__dict__.get("_init_args", {}))

    def frozen_source(self) -> dict[str, Any] | None:
        """Constructor arguments that, beside ``checkpoint_args``, bring the frozen weights from where they came.

        None, the default, where weights are trained or come from nowhere: they are then kept in checkpoints.
        """
        return None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        inner = cls.__dict__["__init__"]
        signature = inspect.signature(inner)

        @functools.wraps(inner)
        def recording_init(self: Any, *args: Any, **kw: Any) -> None:
            if "_init_args" not in self.__dict__:  # the outermost class's arguments are the ones to keep
                bound = signature.bind(self, *args, **kw)
                arguments = dict(list(bound.arguments.items())[1:])
                for name, parameter in signature.parameters.items():
                    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                        arguments.update(arguments.pop(name, {}))
                    # Defaults too: a checkpoint keeps its meaning when one changes, and Python and YAML describe alike.
                    elif parameter.default is None or isinstance(parameter.default, bool | int | float | str | tuple):
                        arguments.setdefault(name, parameter.default)
                object.__setattr__(self, "_init_args", arguments)
            inner(self, *args, **kw)

        cls.__init__ = recording_init  # type: ignore[method-assign]


def class_path(cls: type) -> str:
    """Import path of a class, as YAML files write it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(component: Any) -> Any:
    """Spec of a component; plain values, and containers of them, describe themselves.

    Raises:
        TypeError: for an object that neither a spec nor a plain value can say.
    """
    if isinstance(component, Buildable):
        arguments = {name: describe(value) for name, value in component.checkpoint_args().items()}
        return {"class_path": class_path(type(component)), "init_args": arguments}
    if component is None or isinstance(component, bool | int | float | str):
        return component
    if isinstance(component, dict):
        return {str(key): describe(value) for key, value in component.items()}
    if isinstance(component, list | tuple | set):
        return [describe(value) for value in component]
    if hasattr(component, "__fspath__"):
        return str(component)
    raise TypeError(f"a {type(component).__name__} can't be written into a checkpoint's description")


def build(spec: Any, base: Callable[..., T], overrides: dict[str, Any] | None = None) -> T:
    """Component from a spec; it has to be a ``base``.

    Args:
        spec: as ``describe`` makes it.
        base: the component kind expected at this place.
        overrides: constructor arguments that replace the spec's.

    Raises:
        UsageError: if the class can't be imported or is of another kind. Nothing but component classes is built,
            whatever a checkpoint names.
    """
    path = spec["class_path"]
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"'{path}' can't be imported ({error}): install the package that provides it") from error
    assert isinstance(base, type)
    if not (isinstance(cls, type) and issubclass(cls, base) and issubclass(cls, Buildable)):
        raise UsageError(f"'{path}' is not a {base.__name__}")
    arguments = {key: _rebuild(value) for key, value in spec.get("init_args", {}).items()}
    arguments.update(overrides or {})
    return cast(T, cls(**arguments))


def _rebuild(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"class_path", "init_args"}:
        return build(value, Buildable)
    if isinstance(value, dict):
        return {key: _rebuild(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rebuild(item) for item in value]
    return value


def absolute(name: str | None) -> str | None:
    """A file or folder by its whole path, so that a checkpoint finds it from anywhere; other names unchanged."""
    return str(Path(name).resolve()) if name is not None and Path(name).exists() else name
