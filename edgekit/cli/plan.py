"""``edgekit plan``: how much memory a model needs on a device and how fast it will be, before anything is fetched."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import click

from ..build.plan import plannable
from ..devices import DeviceProfile, all_devices, load_device
from ..errors import EdgekitError, EngineError, MissingPackageError, UnknownNameError, nearest
from ..planning import planner
from ..planning.budget import UserLimits, usable_memory
from ..planning.choice import as_requested, best_recipe, fits_the_device, needed_machine, plan_each
from ..planning.draft import draft
from ..planning.plan import Plan, PlanOptions
from ..recipes import Recipe, all_recipes
from ..scheme import QuantizationOverrides
from ..units import format_bytes
from . import _options as options
from ._conversation_options import reasoning
from ._intervals import show_seconds, show_speed
from ._output import Cell, Column, Part, emit_json, open_screen, print_notes, progress_bars
from ._plan_options import plan_arguments, plan_options
from ._plan_table import UNMEASURED, print_plan
from ._quantization_options import QUANTIZATION_OPTIONS, quantization_arguments

_PICTURES = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class _Request:
    """What every plan of one command has in common: the values of its options."""

    context: int | None
    plan_options: PlanOptions
    quantization: QuantizationOverrides
    reasoning: bool | None
    lora: tuple[str, ...]
    plot: Path | None
    as_json: bool

    def find(self, model: str) -> tuple[Recipe, tuple[str, ...]]:
        """The recipe of MODEL with the requested quantization, and notes about how it was found."""
        with progress_bars() as progress:
            return plannable(model, self.quantization, progress, self.reasoning, self.lora)

    def plan(self, recipe: Recipe, device: DeviceProfile) -> Plan:
        return draft(recipe, device, self.context, options=self.plan_options)

    def plan_among_all(self, recipe: Recipe, device: DeviceProfile) -> Plan:
        """The plan in a table of all devices, where ``--headless`` applies to those that have a choice."""
        headless = self.plan_options.headless and device.memory.usable_headless is not None
        return draft(recipe, device, self.context, options=replace(self.plan_options, headless=headless))

    def draw(self, pairs: Sequence[tuple[Recipe, DeviceProfile]]) -> None:
        """Write the picture if one was requested."""
        if self.plot is None:
            return
        from ._plan_picture import write_picture  # imports matplotlib

        write_picture(self.plot, pairs, self.context, self.plan_options)
        open_screen(err=True).say(f"\npicture written to {self.plot}")


_OPTIONS: dict[str, options.Decorator] = {
    "context": options.count(
        "--context", "Plan for this many tokens of prompt and answer together  [default: the device's]"
    ),
    "plan_options": plan_options,
    "quantization": options.group("quantization", QuantizationOverrides, QUANTIZATION_OPTIONS),
    "reasoning": reasoning,
    "lora": options.lora("Plan MODEL with this LoRA adapter merged, as build does."),
    "plot": click.option(
        "--plot",
        type=options.OutputFile(),
        help="Draw speed, time to the first token and memory into a .svg, .png or .pdf file. Needs matplotlib: "
        'pip install "edgekit-llm[plot]".',
    ),
    "as_json": options.as_json,
}


@options.command(
    "edgekit plan --device jetson",
    "edgekit plan r1-7b --device jetson --context 8192",
    "edgekit plan r1-1.5b --all-devices",
    "edgekit plan Qwen/Qwen2.5-0.5B-Instruct --device phone",
    "edgekit plan --device pi --min-decode 8 --max-ttft 2s --plot pi.svg",
    see_also="edgekit devices and edgekit recipes list the names, edgekit build builds what was planned.",
)
@click.argument("model", required=False)
@click.option(
    "--device", metavar="NAME", help="Plan for this device: a name, an alias or a .toml file; see edgekit devices."
)
@click.option("--all-devices", "every_device", is_flag=True, help="Plan MODEL for every device.")
@options.group("request", _Request, _OPTIONS)
def command(model: str | None, device: str | None, every_device: bool, request: _Request) -> None:
    """Predict whether MODEL fits a device, how much memory it needs and how fast it runs.

    MODEL is a recipe (see edgekit recipes), a recipe file, a checkpoint folder, a .gguf file or a Hugging Face
    repository; edgekit build --help shows the forms. Without MODEL, edgekit plans every recipe and recommends the best
    one that fits.

    The prediction uses only the model's configuration and the device profile; no weights are fetched. Each speed comes
    with an 80 % prediction interval. If the model does not fit, the plan lists options that do.
    """
    if every_device == (device is not None):
        raise click.UsageError("give either --device NAME, or --all-devices and a MODEL")
    if request.lora and model is None:
        raise click.UsageError("--lora needs a MODEL: the one that the adapter was trained on")
    plot = request.plot
    if plot is not None and plot.suffix not in _PICTURES:
        raise click.BadParameter(f"{plot} does not end in .svg, .png or .pdf", param_hint="--plot")
    if plot is not None and find_spec("matplotlib") is None:
        raise MissingPackageError.for_extra("plot", ["matplotlib"], "--plot")
    if device is None:
        if model is None:
            raise click.UsageError("--all-devices needs a MODEL; edgekit recipes lists them")
        _plan_everywhere(request, *request.find(model))
        return
    profile = load_device(device)
    usable_memory(profile, request.plan_options.limits, request.plan_options.headless)  # refuses --headless early
    recipes = as_requested(all_recipes(), request.quantization, request.reasoning)
    if model is None:
        _plan_all(request, recipes, profile, device)
    else:
        recipe, notes = request.find(model)
        _plan_one(request, recipe, notes, profile, recipes)


def _plan_one(
    request: _Request, recipe: Recipe, notes: tuple[str, ...], profile: DeviceProfile, others: Sequence[Recipe]
) -> None:
    """Plan a model for a device. If the plan is not acceptable, offer options, the other models among them."""
    planned = request.plan(recipe, profile)
    machine = None
    if not planned.acceptable:
        devices = all_devices()
        candidates = () if request.lora else others  # an adapter belongs to one model
        planned = planner.plan(
            recipe, profile, request.context, candidates=candidates, devices=devices, options=request.plan_options
        )
        enough = fits_the_device(planned, profile) or any(offer.kind == "headless" for offer in planned.offers)
        machine = None if enough else needed_machine(planned, devices)
    planned = replace(planned, notes=(*notes, *planned.caveats))
    if request.as_json:
        request.draw([(recipe, profile)])  # one object at the end, also if the picture cannot be written
        emit_json({**planned.to_json(), "needs": machine})
    else:
        screen = open_screen()
        print_plan(planned, screen)
        if machine is not None:
            screen.say(f"\nThis model needs {machine}.")
        if planned.fits and not planned.acceptable and not planned.offers:
            screen.say(f"\nNo known option meets this budget: {planned.refused[0].describe()}")
    print_notes(planned.notes)
    if not request.as_json:
        request.draw([(recipe, profile)])


def _plan_all(request: _Request, recipes: Sequence[Recipe], profile: DeviceProfile, device: str) -> None:
    """Plan every recipe for one device and recommend one."""
    plans, refused = plan_each(recipes, profile, request.context, request.plan_options)
    planned = [recipe for recipe in recipes if recipe.name in plans]
    if planned:  # otherwise best_recipe says what is wrong with the request
        if not request.as_json:
            _print_recipes(recipes, plans, refused, profile)
        request.draw([(recipe, profile) for recipe in planned])
    best = best_recipe(planned or recipes, profile, request.context, request.plan_options)
    if request.as_json:
        shown = {"plans": [p.to_json() for p in plans.values()], "refused": refused}
        emit_json({**plans[best.name].to_json(), **shown})
        return
    fitting = sum(p.fits for p in plans.values())
    screen = open_screen()
    more = _fitting_without_desktop(plans.values(), profile, request.plan_options.limits)
    headless_too = f", and {len(more)} more without a desktop (--headless)" if more else ""
    small = sum(p.fits and p.kv_because != "" for p in plans.values())
    small_too = f", {small} of them with an int8 KV cache" if small else ""
    found = f"\n{fitting} of {len(plans)} models fit{small_too}{headless_too}. Recommended: "
    screen.say(found, (best.name, "bold green"), ". Build it with:")
    context = ("--context", str(request.context)) if request.context else ()
    reasoning = {None: (), True: ("--reasoning",), False: ("--no-reasoning",)}[request.reasoning]
    words = (
        "--device", device, *context, *plan_arguments(request.plan_options),
        *quantization_arguments(request.quantization), *reasoning,
    )  # fmt: skip
    screen.print(f"  {shlex.join(['edgekit', 'build', best.name, *words])}", soft_wrap=True)
    print_notes(plans[best.name].caveats)


def _fitting_without_desktop(plans: Iterable[Plan], device: DeviceProfile, limits: UserLimits) -> list[str]:
    """The models that fit only when the device boots without a desktop."""
    if device.memory.usable_headless is None:
        return []
    usable, _ = usable_memory(device, limits, headless=True)
    return [p.model for p in plans if not p.headless and not p.fits and p.memory.peak <= usable]


def _plan_everywhere(request: _Request, recipe: Recipe, notes: tuple[str, ...]) -> None:
    """Plan one model for every device."""
    devices, pairs = all_devices(), []
    refused: dict[str, EdgekitError] = {}
    for device in devices:
        try:
            planned = request.plan_among_all(recipe, device)
        except (EngineError, UnknownNameError) as error:  # it lacks the engine, the power mode or the type of cache
            refused[device.name] = error
        else:
            pairs.append((device, replace(planned, notes=planned.caveats)))
    if not pairs:
        raise _no_device(refused, devices, request.plan_options.power_mode)
    drawn = [(recipe, device) for device, _ in pairs]
    if request.as_json:
        request.draw(drawn)
        reasons = {name: error.message for name, error in refused.items()}
        emit_json({"model": recipe.name, "plans": [planned.to_json() for _, planned in pairs], "refused": reasons})
    else:
        _print_devices(recipe, pairs)
    left_out = [f"left out, because they cannot be planned as requested: {', '.join(refused)}"] if refused else []
    modes = [planned.mode_note for _, planned in pairs if planned.mode_note]
    print_notes([*notes, *modes, *_unchecked(pairs), *left_out])
    if not request.as_json:
        request.draw(drawn)


def _no_device(
    refused: Mapping[str, EdgekitError], devices: Iterable[DeviceProfile], power_mode: str | None
) -> EdgekitError:
    """What to say where no device can be planned as requested."""
    modes = {mode.name for device in devices for mode in device.power_modes}
    if power_mode is not None and power_mode not in modes:
        return UnknownNameError(f"no device has a power mode {power_mode!r}; {nearest(power_mode, modes)}")
    first = next(iter(refused.values()))
    return type(first)(f"no device can be planned as requested; for example, {first.message}", first.hint)


def _unchecked(pairs: Sequence[tuple[DeviceProfile, Plan]]) -> tuple[str, ...]:
    """A note about the devices for which the limits of the user could not be checked."""
    names = [device.name for device, planned in pairs if planned.unchecked]
    return (f"the limits could not be checked for {', '.join(names)}: the speed is unknown",) if names else ()


def _print_recipes(
    recipes: Sequence[Recipe], plans: dict[str, Plan], refused: dict[str, str], device: DeviceProfile
) -> None:
    """One row per recipe."""
    context = max(p.context for p in plans.values())
    first = next(iter(plans.values()))
    mixed = any(p.latency.calibrated for p in plans.values())
    rows: list[list[Cell]] = []
    for recipe in recipes:
        p = plans.get(recipe.name)
        if p is None:
            rows.append([recipe.name, "", "", "", "", "", (refused[recipe.name], "red")])
            continue
        verdict = _verdict(p)
        if p.fits and p.context != context:
            verdict += [f" with {p.context} tokens"]
        if p.fits and recipe.plan_only:
            verdict += [", ", ("plan only", "yellow")]
        mark = "~" if mixed and not p.latency.calibrated else ""
        rows.append([(recipe.name, "bold" if p.acceptable else ""), *_figures(p, mark), verdict])
    usable = format_bytes(first.usable_bytes) + (" usable without a desktop" if first.headless else " usable")
    about = f", {usable}; context {context} tokens, prompt {first.latency.prompt_tokens} tokens"
    _print_plans((device.title, about), Column("model"), rows, list(plans.values()))


def _print_devices(recipe: Recipe, pairs: Sequence[tuple[DeviceProfile, Plan]]) -> None:
    """One row per device: those that fit first, and then by speed."""

    def order(pair: tuple[DeviceProfile, Plan]) -> tuple[bool, float]:
        decode = pair[1].latency.decode_tok_s
        return not pair[1].fits, -decode.mid if decode else 0.0

    rows: list[list[Cell]] = []
    for device, p in sorted(pairs, key=order):
        name = device.name if p.latency.calibrated else f"{device.name} ~"
        rows.append([name, *_figures(p), _verdict(p), format_bytes(p.usable_bytes)])
    about = f" on {len(pairs)} devices, fastest first"
    extra = Column("usable memory", right=True, optional=True)
    _print_plans((recipe.title, about), Column("device"), rows, [p for _, p in pairs], extra)


def _print_plans(
    title: tuple[str, str], first: Column, rows: Sequence[Sequence[Cell]], plans: Sequence[Plan], *extra: Column
) -> None:
    """A table of plans, and an explanation of the words that occur in it."""
    screen = open_screen()
    screen.say((title[0], "bold"), title[1])
    screen.say(
        "Expected values, with 80 % prediction intervals in brackets; tokens per second with an empty and a full "
        "context.\n"
    )
    speeds = (
        Column("first token", optional=True),
        Column("tok/s, empty", optional=True),
        Column("tok/s, full", last_resort=True),
    )
    memory, engine, fits = Column("memory", right=True), Column("engine", optional=True), Column("fits", wraps=True)
    screen.table((first, memory, engine, *speeds, fits, *extra), rows)
    fitting = [p for p in plans if p.fits]
    words = {"ttft_s": "more than {:g} s to the first token", "decode_tok_s": "less than {:g} tok/s"}
    slow = {words[limit.name].format(limit.value) for p in fitting for limit in p.limits if limit.slow}
    calibrated = [p.latency.calibrated for p in plans]
    words_used = []
    if slow:
        words_used.append((f"slow: fits, but {' or '.join(sorted(slow))}", "dim"))
    if any(p.plan_only for p in fitting):
        words_used.append(("plan only: edgekit can plan this model but not build it", "dim"))
    if all(p.latency.decode_tok_s is None for p in plans):
        words_used.append((UNMEASURED, "yellow"))
    elif not all(calibrated):
        names = " (~)" if any(calibrated) else ""
        why = sorted({p.latency.uncalibrated_because for p in plans if not p.latency.calibrated})
        words_used.append((f"uncalibrated{names}: {'; '.join(why)}", "yellow"))
    if words_used:
        screen.say()
    for explanation in words_used:
        screen.say(explanation)


def _figures(p: Plan, mark: str = "") -> tuple[Cell, ...]:
    """Memory, engine and speed; the speed is dim where the model does not fit. ``mark`` comes before each speed."""
    latency = p.latency
    speeds = (show_seconds(latency.ttft_s), show_speed(latency.decode_tok_s), show_speed(latency.decode_full_tok_s))
    cells = ((mark + speed, "" if p.fits else "dim") for speed in speeds)
    return (format_bytes(p.memory.peak), p.engine, *cells)


def _verdict(p: Plan) -> list[Part]:
    if not p.fits:
        return [("no", "red")]
    if not p.acceptable:
        return [("too slow", "red")]
    return [("slow", "yellow") if p.slow else ("yes", "green")]
