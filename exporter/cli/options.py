"""From the table of settings to the options of a command, and back to a `Config`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from exporter.config import CONFIG_FILE, OPTIONS, Config, load, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Decorated = TypeVar("Decorated", bound="Callable[..., Any]")

ALL: Final = (CONFIG_FILE, *(option.name for option in OPTIONS))

LIVE: Final = (CONFIG_FILE, "docker.host", "poll.timeout", "evidence.max", "host.netns")
"""What matters to a command that looks at an engine and at nothing else."""

LOOK: Final = (CONFIG_FILE, "docker.host", "poll.timeout", "snapshot", "evidence.max", "host.netns")
"""What matters to a command that looks at the engine once."""

STANDARDS: Final = ("tenant.label", "tenant.trusted", "policy.file")
"""What a host is held to, and with it which labels of containers are kept."""


def settings(*names: str) -> Callable[[Decorated], Decorated]:
    """Give a command the options of these names; what is given of them is kept for `resolve`."""

    def decorate(function: Decorated) -> Decorated:
        # decorators apply from the last to the first, help shows the order of the table
        for name in reversed(names):
            function = _option(name)(function)
        return function

    return decorate


def formatted(*forms: str, remark: str | None = None) -> Callable[[Decorated], Decorated]:
    """Give a command `--format`, as its argument `form`: one of these, the first unless somebody asks for another."""
    return click.option("--format", "form", type=click.Choice(forms), default=forms[0], show_default=True, help=remark)


def resolve(context: click.Context, environ: Mapping[str, str]) -> Config:
    """Return the settings that flags, environment and file amount to."""
    return load(given(context), environ)


def given(context: click.Context) -> dict[str, tuple[str, ...]]:
    """Return the texts of the flags, before and after the command's name, by option name."""
    flags: dict[str, tuple[str, ...]] = context.ensure_object(dict)
    offered = {parameter.name for parameter in context.command.params}
    for name in flags:
        if _parameter(name) not in offered:
            raise click.UsageError(f"--{name} means nothing to {context.command.name}", context)
    return dict(flags)


def _option(name: str) -> Callable[[Decorated], Decorated]:
    option = next((option for option in OPTIONS if option.name == name), None)
    switch = option is not None and option.kind == "switch"
    if option is None:
        text, metavar, default, several = "Read settings from this YAML file.", "FILE", "", False
    else:
        text, metavar, default, several = option.help, option.metavar, option.default, option.multiple
    # to any other option `flag_value` would mean that its value may be left out
    kind: dict[str, Any] = {"is_flag": True, "flag_value": "true"} if switch else {}
    remarks = [f"env: {variable_of(name)}"] + ([f"default: {default}"] if default else [])
    return click.option(
        f"--{name}",
        _parameter(name),
        metavar=metavar or None,
        multiple=several,
        **kind,
        help=f"{text} [{'; '.join(remarks)}]",
        # priorities are `config.load`'s business: click only collects what was written
        callback=partial(_keep, name),
        expose_value=False,
    )


def _keep(name: str, context: click.Context, _parameter: click.Parameter, value: str | Sequence[str] | None) -> None:
    if value:
        context.ensure_object(dict)[name] = (value,) if isinstance(value, str) else tuple(value)
    elif value == "":
        context.ensure_object(dict)[name] = ("",)


def _parameter(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")
