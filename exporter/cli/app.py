"""The commands. Each imports what it needs when it runs: `--help` loads neither web server nor engine client."""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import gc
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exporter import __version__
from exporter.cli import terminal
from exporter.cli.options import ALL, LIVE, LOOK, STANDARDS, formatted, resolve, settings
from exporter.cli.terminal import STANDARD
from exporter.errors import ConfigError, ExporterError
from exporter.publish.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from exporter.cli.text import Line
    from exporter.config import Config
    from exporter.model.addresses import Address

NAME: Final = "docker-icc-exporter"
FAILED: Final = 2
INTERRUPTED: Final = 130

EPILOG: Final = """\b
Priority: flag, then environment variable, then configuration file, then default.
A key of the configuration file is the flag with its dot unfolded:
  poll:
    interval: 30s
\b
Exit codes:
  0    done; check: no violation; diff: no differences; whatif: whatever is foretold
  1    check: violations; diff: differences; probe: a packet disagrees; serve: its HTTP server ended by itself
  2    wrong use, an address taken by another program, or the engine or a file could not be read;
       probe: packets could not be sent, or none of them decides anything
  130  interrupted"""


class _Commands(click.Group):
    """Ends quietly on Ctrl-C, where click would move to a new line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(
    NAME,
    cls=_Commands,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@settings(*ALL)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Tell which containers of a Docker Engine can reach which others.

    Without a command it serves: a Prometheus exporter with the gauges icc_enabled and reachable_pairs_total.
    """
    if context.invoked_subcommand is None:
        _serve(context)


@commands.command()
@settings(*ALL)
@click.pass_context
def serve(context: click.Context) -> None:
    """Poll the engine and serve metrics, pages and the JSON API (the default)."""
    _serve(context)


def _serve(context: click.Context) -> None:
    from exporter import logs
    from exporter.cli import look
    from exporter.runtime import daemon

    gc.enable()

    def configure() -> Config:
        config = resolve(context, os.environ)
        if config.snapshot == Path(STANDARD):
            raise ConfigError("serve reads its snapshot at every poll, which standard input cannot repeat: name a file")
        if config.probe_sample:
            look.needs_sandboxes(config, "--probe.sample")
        logs.configure(config.log_level, config.log_format)
        return config

    code = daemon.run(configure(), configure)
    # Not by way of the interpreter's end, which waits for threads: a report, or a password's hash, is for nobody now.
    os._exit(code)


@commands.command()
@settings(*LOOK, *STANDARDS)
@formatted("table", "json", "csv", "dot", remark="dot is a graph for Graphviz.")
@click.pass_context
def report(context: click.Context, form: str) -> None:
    """Print every reachable or undecided pair with its paths."""
    from exporter import evaluate
    from exporter.cli import look
    from exporter.publish import formats

    config = resolve(context, os.environ)
    held_to = look.standards(config)
    snapshot, found = look.answer(look.observe(config, held_to), held_to)
    if form in formats.WITH_CAUSES:
        terminal.write(formats.WITH_CAUSES[form](found, evaluate.causes(snapshot, found)))
    else:
        terminal.write(formats.RENDERERS[form](found))


@commands.command()
@settings(*LOOK)
@click.option("--protocol", type=click.Choice(["tcp", "udp", "icmp"]), help="Ask about this protocol only.")
@click.option("--port", type=click.IntRange(1, 65535), help="Ask about this port only.")
@click.option("--address", metavar="IP", help="Ask about packets to this address only.")
@formatted("text", "json")
@click.argument("source")
@click.argument("destination")
@click.pass_context
def explain(
    context: click.Context,
    source: str,
    destination: str,
    protocol: str | None,
    port: int | None,
    address: str | None,
    form: str,
) -> None:
    """Tell why SOURCE can or cannot reach DESTINATION.

    Both are names of containers, or beginnings of their ids. Where the kernel was read, packets are followed through
    its rules: which of them decides, and what would have to change.
    """
    from exporter import evaluate
    from exporter.cli import look, text
    from exporter.model.reach import Protocol
    from exporter.publish import formats

    if port and protocol == Protocol.ICMP:
        raise click.UsageError("--port means nothing to --protocol icmp", context)
    to = _address(context, address)
    config = resolve(context, os.environ)
    snapshot, report = look.answer(look.observe(config))
    asked = Protocol(protocol) if protocol else None
    explanation = evaluate.explain(snapshot, report, source, destination, asked, port, to)
    if form == "json":
        terminal.write(formats.json.explanation(explanation))
    else:
        _print(text.explain(explanation))


@commands.command()
@settings(*LIVE)
@click.option("--snapshot", hidden=True, help="Given to say why there is no such option here.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), help="Send packets of this protocol only.")
@click.option("--port", type=click.IntRange(1, 65535), help="Send packets to this port only.")
@click.option("--address", metavar="IP", help="Send packets to this address only.")
@formatted("text", "json")
@click.argument("source")
@click.argument("destination")
@click.pass_context
def probe(
    context: click.Context,
    source: str,
    destination: str,
    snapshot: str | None,
    protocol: str | None,
    port: int | None,
    address: str | None,
    form: str,
) -> None:
    """Send packets from SOURCE to DESTINATION, and hold the verdicts against them.

    Needs --evidence.max=sandboxes. No program in a container notices: no connection is completed, and no datagram sent
    to a port that is in use. The exit code is 1 when a packet disagrees with its verdict, 2 when nothing was decided.
    """
    from exporter.cli import look, probing, text
    from exporter.model.explanation import Question
    from exporter.model.reach import Protocol
    from exporter.publish import formats

    to = _address(context, address)
    config = resolve(context, os.environ)
    if snapshot or config.snapshot:
        raise click.UsageError("probe sends packets through what runs now, which no --snapshot holds", context)
    look.needs_sandboxes(config, "probe")
    asked = Question(Protocol(protocol) if protocol else None, port, to)
    answer = probing.probe(config, source, destination, asked)
    if form == "json":
        terminal.write(formats.json.probes(answer))
    else:
        _print(text.probes(answer))
    context.exit(probing.exit_code(answer))


@commands.command()
@settings(*LOOK, *STANDARDS)
@click.option("-o", "--output", metavar="FILE", default=STANDARD, help="Write here, not to standard output.")
@click.pass_context
def snapshot(context: click.Context, output: str) -> None:
    """Save what the engine says as one JSON file, for --snapshot, diff and bug reports.

    It holds names, addresses and ports of networks and containers, of labels those that --tenant.label and the policy
    name, and nothing of environments, commands and images; with more evidence than the API's also rules of the
    firewall, and the settings of the daemon that decide who reaches whom. The file replaces an older one whole and
    belongs to its owner alone (mode 0600).
    """
    from exporter.cli import look
    from exporter.observe import files

    config = resolve(context, os.environ)
    content = files.dumps(look.observe(config, look.standards(config)))
    if output == STANDARD:
        terminal.write(content)
    else:
        terminal.write_file(Path(output), content)


@commands.command()
@settings(*LOOK, *STANDARDS)
@formatted("text", "json", "junit", remark="junit is for CI systems.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Tell of at most so many violations of each rule; all are counted.",
)
@click.pass_context
def check(context: click.Context, form: str, limit: int) -> None:
    """Tell which pairs violate the policy, and why they are open.

    Without a policy file, containers of different tenants must not reach each other. The exit code is 1 when a rule is
    violated. A pair that is undecided violates as one that is open does.
    """
    from exporter.cli import checks, look

    config = resolve(context, os.environ)
    held_to = checks.demanded(look.standards(config))
    snapshot, report = look.answer(look.observe(config, held_to), held_to)
    checked = checks.check(snapshot, report, config.policy_file, limit)
    if form == "text":
        _print(checks.text(checked))
    else:
        terminal.write(checks.RENDERERS[form](checked))
    context.exit(1 if checked.violations else 0)


@commands.command()
@formatted("text", "json")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.pass_context
def diff(context: click.Context, before: str, after: str, form: str) -> None:
    """Compare the observation files A and B: containers that came and went, pairs that opened and closed.

    One of them may be - for standard input. The exit code is 1 when they differ.
    """
    from exporter import evaluate
    from exporter.cli import look, text

    if before == after == STANDARD:
        raise click.UsageError("only one of the files can be standard input", context)
    first, second = (look.answer(look.read(Path(name))).report for name in (before, after))
    difference = evaluate.diff(first, second)
    if form == "json":
        terminal.write(text.diff_json(difference))
    else:
        _print(text.diff(difference))
    context.exit(1 if difference else 0)


@commands.command()
@settings(*LOOK)
@click.option("--icc", type=click.Choice(["true", "false"]), help="The daemon's --icc, or enable_icc of --network.")
@click.option("--network", metavar="NAME", help="Ask about this network, created anew with --icc.")
@click.option("--userland-proxy", type=click.Choice(["true", "false"]), help="The daemon's --userland-proxy.")
@formatted("text", "json")
@click.pass_context
def whatif(context: click.Context, icc: str | None, network: str | None, userland_proxy: str | None, form: str) -> None:
    """Tell which pairs would close, open or stay open if the daemon were restarted, or a network created anew.

    Without --icc and --userland-proxy the daemon is taken to start with the configuration that it would find. Nothing
    is changed. The exit code is 0 whatever is foretold.
    """
    from exporter import evaluate
    from exporter.cli import look, text
    from exporter.model.whatif import Proposal
    from exporter.publish import formats

    if network is not None and icc is None:
        raise click.UsageError("--network needs --icc: whether its containers are to communicate", context)
    snapshot, report = look.answer(look.observe(resolve(context, os.environ)))
    proposal = Proposal(_switch(icc), network or "", _switch(userland_proxy))
    foretold = evaluate.whatif(snapshot, report, proposal)
    if form == "json":
        terminal.write(formats.json.foretelling(foretold))
    else:
        _print(text.whatif(foretold))


def _switch(text: str | None) -> bool | None:
    return None if text is None else text == "true"


def _address(context: click.Context, text: str | None) -> Address | None:
    from exporter.model.explanation import asked_address

    try:
        return asked_address(text or "")
    except ValueError as error:
        raise click.UsageError(f"--{error}", context) from error


def _print(lines: Iterable[Line]) -> None:
    colours = terminal.coloured(sys.stdout, os.environ)
    shown = ((visible(line.text), line.colour) for line in lines)
    terminal.write("".join(f"{click.style(text, fg=colour) if colours else text}\n" for text, colour in shown))


def main() -> None:
    """Run the command that the command line asks for, and end the program with its exit code."""
    if os.getpid() == 1:
        # the kernel spares a container's first process the usual effect; the daemon handles the signal once it runs
        signal.signal(signal.SIGTERM, _end)
    # a name that the terminal's encoding lacks must not end the program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # commands are over before collecting garbage would pay; a daemon is not
    gc.disable()
    sys.exit(_run())


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _run() -> int:
    try:
        return int(commands.main(prog_name=NAME, standalone_mode=False) or 0)
    except click.ClickException as error:
        _complain_of_use(error)
        return FAILED
    except ExporterError as error:
        terminal.complain(str(error))
        return FAILED


def _complain_of_use(error: click.ClickException) -> None:
    terminal.complain(error.format_message())
    if isinstance(error, click.UsageError) and error.ctx:
        click.echo(f"try {error.ctx.command_path} --help", err=True)
