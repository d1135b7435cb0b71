"""``clearweight serve``: predictions, explanations and drift over REST and gRPC."""

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of models.", metavar="DIR")],
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="REST and metrics; 0 takes a free port. [default: 8080]")
    ] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC; 0 takes a free port. [default: 8081]")] = None,
    threads: Annotated[int | None, typer.Option(help="ONNX Runtime threads per run. [default: 1]")] = None,
    shadow: Annotated[
        float | None,
        typer.Option(help="Share of rows also run through the reference beside the artifact. [default: 0.0]"),
    ] = None,
    low_fidelity: Annotated[
        str | None,
        typer.Option(help="A model below its fidelity budget: refuse or annotate. [default: refuse]"),
    ] = None,
    integrity_interval: Annotated[
        float | None, typer.Option(help="Seconds between self-tests; 0 for none. [default: 3600]")
    ] = None,
    false_alarm_interval_days: Annotated[
        float | None, typer.Option(help="Wanted days between false drift alarms. [default: 30]")
    ] = None,
) -> None:
    """Serve predictions and explanations until Ctrl-C.

    Every option, and more, can be set in the environment: CLEARWEIGHT_HTTP_PORT=9000. An option given here wins.

    Example: clearweight serve models --http-port 8080 --shadow 0.05
    """
    from pydantic import ValidationError

    from clearweight.service import ServiceError
    from clearweight.service.serve import serve as run
    from clearweight.service.settings import Settings

    given: dict[str, Any] = {
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "threads": threads,
        "shadow": shadow,
        "low_fidelity": low_fidelity,
        "integrity_interval": integrity_interval,
        "false_alarm_interval_days": false_alarm_interval_days,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        run(Settings(models=directory, **chosen))
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            typer.echo(f"Setting {where}: {problem['msg']}, found {problem['input']!r}.", err=True)
        raise typer.Exit(2) from None
    except ServiceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
