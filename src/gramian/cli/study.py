"""What `gramian certify` does: one study a network, one table, one report, one exit code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.data_options import DataSource, Draw, dataset
from gramian.cli.modules import is_file
from gramian.cli.networks import BuiltNetwork, network
from gramian.cli.output_files import check_folder
from gramian.errors import BadArgument, GramianError

if TYPE_CHECKING:
    from gramian.certify import Certification
    from gramian.data import Dataset

PARAMETRIZATIONS = ("ntk", "standard", "own", "allen-zhu")


@dataclass(frozen=True)
class NetworkChoices:
    """Which networks, and what becomes of them; as on the command line."""

    nets: tuple[str, ...]
    depth: int | None
    width: str
    activation: str | None
    bias: bool
    law: str | None
    parametrization: str | None
    dtype: str | None
    device: str

    def __post_init__(self) -> None:
        if self.parametrization is not None:
            opt.one_of("--parametrization", self.parametrization, PARAMETRIZATIONS)
        self._check_effect()

    @property
    def width_number(self) -> int | None:
        """The width; None for auto."""
        if self.width == "auto":
            return None
        try:
            return opt.whole("--width", int(self.width))
        except ValueError:
            raise BadArgument(
                f"--width {self.width} is no width.", where="--width", fix="--width auto, or --width 512"
            ) from None

    def _check_effect(self) -> None:
        """Options that would have no effect are mistakes."""
        own = [spec for spec in self.nets if is_file(spec)]
        given = [("--depth", self.depth), ("--activation", self.activation), ("--bias", self.bias or None)]
        if self.parametrization in (None, "own"):
            given.append(("--width", self.width_number))
        useless = [option for option, value in given if value is not None]
        if len(own) != len(self.nets) or not useless:
            return
        fix = "leave them out; the file says what the network is."
        if useless == ["--width"]:
            fix = "--parametrization ntk draws its architecture anew, at any --width."
        raise BadArgument(
            f"{' and '.join(useless)} would have no effect on {own[0]}.",
            where=f"--net {own[0]} {' '.join(useless)}",
            why="your network is trained as it stands.",
            fix=fix,
        )

    def built(self, data: Dataset, seed: int) -> list[BuiltNetwork]:
        """The networks for these data."""
        return [
            network(
                spec, data, depth=self.depth, width=self.width_number, activation=self.activation, bias=self.bias,
                seed=seed,
            )
            for spec in self.nets
        ]  # fmt: skip

    def keywords(self, net: BuiltNetwork) -> dict[str, Any]:
        """What `gramian.certify` is told of one of them."""
        # a module that is not the user's own has no weights worth keeping
        drawn_anew = None if net.own else "ntk"
        return {
            "law": opt.law_of(self.law, net.law),
            "parametrization": self.parametrization or drawn_anew,
            "width": self.width_number or "auto",
            "dtype": None if self.dtype is None else opt.dtype_of(self.dtype),
            "device": opt.device_of(self.device),
        }


@dataclass(frozen=True)
class Study:
    """All that `gramian certify` was told; `settings` are those of `gramian.certify` that train and judge."""

    source: DataSource
    draw: Draw
    networks: NetworkChoices
    settings: dict[str, Any]
    out: Path
    checkpoint: Path | None
    quiet: bool
    command: list[str]

    def check(self) -> None:
        """Raise for what can be told before any work."""
        if self.checkpoint is not None and len(self.networks.nets) > 1:
            raise BadArgument(
                f"one --checkpoint for {len(self.networks.nets)} networks.",
                where=f"--checkpoint {self.checkpoint}",
                why="a checkpoint holds one run.",
                fix="one command a network.",
            )
        check_folder(self.out)


def run_study(study: Study) -> int:
    """Certifies each network, prints the answers, writes the report; the exit code."""
    study.check()
    data = dataset(study.source, study.draw)
    built = study.networks.built(data, study.draw.seed)
    if not study.quiet:
        show.talk(f"{data.name}: {_described(data)}")
        if study.checkpoint is not None and study.checkpoint.exists():
            show.talk(f"{study.checkpoint} was there: the run goes on from it.")
    done: list[Certification] = []
    failed = stopped = False
    for number, net in enumerate(built):
        if not study.quiet:
            which = ""
            if len(built) > 1:
                which = f" ({number + 1} of {len(built)})"
            show.talk(f"{net.title}{which}: limit kernel and width, then training", "bold")
        try:
            done.append(_certified(study, net, data))
        except GramianError as error:
            show.show_error(error)
            failed = True
            continue
        except KeyboardInterrupt:
            if not done:
                raise
            show.talk(f"Interrupted: the report holds the {len(done)} finished of {len(built)} networks.")
            stopped = True
            break
        if done[-1].run["origin"]["interrupted"]:
            stopped = True
            break
    if done:
        _print(done, study.out)
    if failed:
        return 2
    if stopped:
        return show.INTERRUPTED
    return int(not all(one.holds for one in done))


def _certified(study: Study, net: BuiltNetwork, data: Dataset) -> Certification:
    """The one call, with the lines of Python that do the same."""
    from gramian.certify import Description, certify

    keywords = {**study.settings, **study.networks.keywords(net)}
    module, checkpoint = net.module, study.checkpoint
    if keywords["parametrization"] == "own":
        # `certify` neither casts nor moves a module that it trains in place
        module = module.to(device=keywords["device"], dtype=keywords["dtype"])
    one = certify(
        module,
        data.x,
        data.y,
        x_test=data.x_test,
        y_test=data.y_test,
        description=Description(
            name=net.title,
            data_name=data.name,
            source=data.source,
            classes=data.classes,
            rows=data.rows,
            notes=(*data.notes, *([net.says] if net.says else [])),
        ),
        checkpoint=checkpoint,
        resume=checkpoint is not None and checkpoint.exists(),
        progress=not study.quiet,
        **keywords,
    )
    one.run["origin"] |= {"command": shlex.join(study.command), "python": _python(study, net, data, keywords)}
    return one


def _python(study: Study, net: BuiltNetwork, data: Dataset, keywords: dict[str, Any]) -> str:
    """The lines of Python that do the same, as one."""
    from gramian.certify.python_line import call

    draw = study.draw
    drawn = {
        **study.source.keywords(), "n": len(data.x), "n_test": len(data.x_test), "seed": draw.seed,
        "normalize": draw.normalize,
    }  # fmt: skip
    loaded = ", ".join(f"{name}={value!r}" for name, value in drawn.items() if value is not None)
    vector = ""
    if draw.flatten:
        vector = ".flatten(1)"
    code, own_weights = net.code, net.own or keywords["parametrization"] == "own"
    if keywords["parametrization"] == "own":
        code += f".to(device={keywords['device']!r}, dtype={keywords['dtype']!r})"
    lines = [
        "import torch, gramian, gramian.data",
        net.imports,
        f"data = gramian.data.load({study.source.data!r}, {loaded})",
    ]
    if own_weights:
        lines.append(f"torch.manual_seed({draw.seed})")
    lines.append(call(code, f"data.x{vector}", "data.y", keywords, test=(f"data.x_test{vector}", "data.y_test")))
    return "; ".join(lines)


def _print(done: list[Certification], out: Path) -> None:
    from gramian.certify import report_facts
    from gramian.cli.printed_answer import print_answer
    from gramian.report import write

    facts = report_facts(done)
    replaced = (out / "report.json").exists()
    html, _ = write(facts, out)
    console = show.out()
    print_answer(facts, console)
    where = str(html)
    if replaced:
        where += ", in place of the one that was there; --out FOLDER writes beside it"
    show.written([("report", where)], console)


def _described(data: Dataset) -> str:
    from gramian.data.wording import counted

    shape = "x".join(map(str, data.in_shape))
    kind = "regression"
    if data.classes:
        kind = f"{data.n_outputs} classes"
    return f"{len(data.x):,} training and {counted(len(data.x_test), 'test row')} of shape {shape}, {kind}"
