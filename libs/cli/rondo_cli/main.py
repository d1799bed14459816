"""The `rondo` command. Subcommands import what they need when they run, so that help is quick."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from rondo_cli.errors import Failure

app = typer.Typer(
    name="rondo",
    help="Rondo's local stack and operators' tools. Works from any folder inside the project.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics = typer.Typer(help="Topics of the catalogue and of the broker.", no_args_is_help=True, rich_markup_mode=None)
dlq = typer.Typer(help="Dead letters: look, replay, drop.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(topics, name="topics")
app.add_typer(dlq, name="dlq")

Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Name = Annotated[str, typer.Argument(help="Name of the process, e.g. profiles or delivery-email")]
Topic = Annotated[str, typer.Argument(help="Topic name; the leading rondo. and the .v1 may be left out")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many records")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking")]


def _run(module: str, function: str, **arguments: object) -> None:
    """Call a subcommand's function with its arguments; its return value is the exit code."""
    code = getattr(import_module(f"rondo_cli.commands.{module}"), function)(**arguments)
    raise typer.Exit(code or 0)


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready, leave it running")] = False,
    scale: Annotated[list[str] | None, typer.Option(help="name=n: run n instances of a process")] = None,
    test_clock: Annotated[str | None, typer.Option(help="Freeze time at this RFC 3339 instant")] = None,
    external: Annotated[bool, typer.Option(help="Use RONDO_KAFKA and RONDO_REDIS, start no servers")] = False,
    reset: Annotated[bool, typer.Option(help="Wipe the stack's own folder first")] = False,
    any_ports: Annotated[bool, typer.Option(help="Any free ports instead of the well-known ones")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Start only these processes beside the servers")] = None,
) -> None:
    """Start Kafka, Redis and all services; stay in the foreground until Ctrl-C."""
    _run(
        "up",
        "up",
        detach=detach,
        scale=scale or [],
        test_clock=test_clock,
        external=external,
        reset=reset,
        any_ports=any_ports,
        only=tuple(only or ()),
    )


@app.command()
def down() -> None:
    """Stop the stack and wait until it is gone."""
    _run("stack", "down")


@app.command()
def stop(name: Name) -> None:
    """Stop one service of the running stack and keep it stopped."""
    _run("stack", "hold", name=name)


@app.command()
def start(name: Name) -> None:
    """Let a stopped service run again, and wait until it is ready."""
    _run("stack", "release", name=name)


@app.command()
def status(json: Json = False) -> None:
    """What runs, where, and what it misses. Exit 1 unless all is ready."""
    _run("stack", "status", json=json)


@app.command()
def serve(name: Name) -> None:
    """Run one service in the foreground, configured by RONDO_* (same as python -m services NAME)."""
    _run("stack", "serve", name=name)


@app.command()
def doctor(json: Json = False) -> None:
    """Check what the stack needs and how the running one is."""
    _run("doctor", "doctor", json=json)


@app.command()
def lag(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until everything accepted so far is processed")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most")] = 60.0,
    json: Json = False,
) -> None:
    """Records behind, by group, topic and partition. With --wait: exit 0 when drained, 1 on time-out."""
    _run("lag", "lag", wait=wait, timeout=timeout, json=json)


@app.command()
def tail(
    topic: Topic,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Last n records a partition first")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new ones until Ctrl-C")] = False,
    key: Annotated[str | None, typer.Option(help="Only records whose key contains this")] = None,
    json: Json = False,
) -> None:
    """Show records of a topic."""
    _run("records", "tail", topic=topic, limit=limit, follow=follow, key=key, json=json)


@topics.command("ls")
def topics_ls(json: Json = False) -> None:
    """Every topic of the catalogue, with what the broker has of it."""
    _run("topics", "ls", json=json)


@topics.command("create")
def topics_create(
    partitions: Annotated[int | None, typer.Option(help="Partitions of member-keyed topics")] = None,
    replication: Annotated[int | None, typer.Option(help="Replication factor")] = None,
) -> None:
    """Make the topics of the catalogue that are missing."""
    _run("topics", "create", partitions=partitions, replication=replication)


@topics.command("describe")
def topics_describe(topic: Topic, json: Json = False) -> None:
    """One topic: catalogue, partitions, offsets, configuration."""
    _run("topics", "describe", topic=topic, json=json)


@dlq.command("ls")
def dlq_ls(json: Json = False) -> None:
    """Dead letters by topic and reason."""
    _run("dlq", "ls", json=json)


@dlq.command("show")
def dlq_show(
    topic: Topic,
    limit: Limit = 20,
    reason: Annotated[str | None, typer.Option(help="Only this reason")] = None,
    json: Json = False,
) -> None:
    """Dead letters of one source topic."""
    _run("dlq", "show", topic=topic, limit=limit, reason=reason, json=json)


@dlq.command("replay")
def dlq_replay(topic: Topic, limit: Limit = 1000, yes: Yes = False) -> None:
    """Write the oldest dead letters back to their source topic, with their key, and remove them."""
    _run("dlq", "replay", topic=topic, limit=limit, yes=yes)


@dlq.command("drop")
def dlq_drop(topic: Topic, limit: Limit = 1000, yes: Yes = False) -> None:
    """Remove the oldest dead letters for good."""
    _run("dlq", "drop", topic=topic, limit=limit, yes=yes)


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="CSV file")],
    mapping: Annotated[str, typer.Option(help="JSON file that maps columns to event fields")],
    dry_run: Annotated[bool, typer.Option(help="Check only; exit code 1 when rows would be refused")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until every row is worked off, and say which were refused")] = True,
    json: Json = False,
) -> None:
    """Import events from a CSV file through the HTTP API."""
    _run("imports", "import_", file=file, mapping=mapping, dry_run=dry_run, wait=wait, json=json)


@app.command()
def send(
    channel: Annotated[str, typer.Argument(help="email, sms or messaging")],
    member: Annotated[str, typer.Argument(help="The member's user id")],
    template: Annotated[str, typer.Option(help="Template id")],
    data: Annotated[str, typer.Option(help="JSON for the template")] = "{}",
    json: Json = False,
) -> None:
    """Send one transactional message."""
    _run("calls", "send", channel=channel, member=member, template=template, data=data, json=json)


@app.command()
def explain(
    member: Annotated[str, typer.Argument(help="The member's user id")],
    campaign: Annotated[str, typer.Argument(help="Campaign id")],
    at: Annotated[str | None, typer.Option(help="As of this RFC 3339 instant")] = None,
    json: Json = False,
) -> None:
    """Why a member got, or did not get, a campaign's message."""
    _run("calls", "explain", member=member, campaign=campaign, at=at, json=json)


@app.command()
def audit(
    from_: Annotated[str | None, typer.Option("--from", help="Only records from this RFC 3339 instant on")] = None,
    to: Annotated[str | None, typer.Option(help="Only what began before this instant; what came of it counts")] = None,
    accepted: Annotated[
        str | None,
        typer.Option(help="File with the message ids your client was answered 2xx for, one a line; - is stdin"),
    ] = None,
    workspace: Annotated[str | None, typer.Option(help="Only this workspace")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Findings to show; all are counted")] = 50,
    json: Json = False,
) -> None:
    """Compare what was accepted, what the log holds and what came of it; name holes and repeats.

    Reads only Kafka, with a client that shares no code with the services. Every event must have its
    member event, every touch its decision, every decision to send its send, every send its answer; none
    twice. Repeated calls, dead letters and what is still under way are no findings. Also: offsets that
    do not fit the log, and transactions that hang.

    Exit 0: clean. 1: findings, each with topic, partition and offset. 2: asked wrongly.
    """
    _run("audit", "audit", from_=from_, to=to, accepted=accepted, workspace=workspace, limit=limit, json=json)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which benches; all without")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: shows that it works, measures nothing")] = False,
    flush: Annotated[bool, typer.Option("--flush", help="Broker with flush.messages=1")] = False,
    out: Annotated[str | None, typer.Option(help="Also write OUT.json and OUT.md")] = None,
    json: Json = False,
) -> None:
    """Measure beside baselines in the same run, against the numbers of the design."""
    _run("bench", "bench", names=names or [], runs=runs, quick=quick, flush=flush, out=out, json=json)


def _later(name: str, text: str) -> None:
    def command(arguments: Annotated[list[str] | None, typer.Argument(help="")] = None) -> None:
        raise Failure(f"rondo {name} is not served yet", 2)

    command.__doc__ = f"{text} (not served yet)"
    app.command(name, context_settings={"ignore_unknown_options": True})(command)


for _name, _text in (
    ("simulate", "What the gate would decide at another time."),
    ("rehearse", "Run a campaign against the past log."),
):
    _later(_name, _text)


def run() -> int:
    """The console script."""
    try:
        app()
    except Failure as e:
        print(f"rondo: {e}", file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        from kafka.errors import KafkaError

        if not isinstance(e, KafkaError):
            raise
        print(f"rondo: Kafka does not answer: {e}", file=sys.stderr)
        return 1
    return 0
