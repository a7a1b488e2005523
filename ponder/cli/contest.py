"""`ponder contest`: rate (a rating), standings and problems (what one is made from), place (in an olympiad)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.options import number
from ponder.cli.show import finish, print_tables
from ponder.config import ConfigError

if TYPE_CHECKING:
    from ponder.evals.contest_rating import ContestRating
    from ponder.ratings import Rated


contest = typer.Typer(help="Rate a model among humans: contests of Codeforces, olympiads.", no_args_is_help=True)
app.add_typer(contest, name="contest", rich_help_panel=MEASURE)


@contest.command("rate")
def rate_(
    submissions: Annotated[
        Optional[Path], typer.Argument(help="Verdicts in order: a .jsonl file, a folder of them, or a bank.")
    ] = None,
    contests: Annotated[
        Optional[list[Path]], typer.Option("--contest", help="A contest's .json file, or a folder of them; repeatable.")
    ] = None,
    rule: Annotated[str, typer.Option(help="What a solved problem is worth: median, codeelo or untimed.")] = "median",
    tries: Annotated[int, number("Tries a problem that count.", least=1)] = 10,
    language: Annotated[str, typer.Option(help="What the programs are written in, where the file does not say.")] = "",
    made_up: Annotated[
        bool, typer.Option("--made-up", help="No files: made-up contests, and a made-up model whose rating is known.")
    ] = False,
    rating: Annotated[float, number("Of the made-up model.", least=0, most=4000)] = 1700,
    rounds: Annotated[int, number("Made-up contests.", least=1, most=1000)] = 12,
    humans: Annotated[int, number("People in each made-up contest.", least=1, most=100_000)] = 1000,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Rate a model in contests of humans: points, places, a rating with its interval, percentiles."""
    from ponder.evals.codec import encode
    from ponder.evals.contest_rating import rate
    from ponder.evals.contest_submissions import read_tries
    from ponder.evals.contests import read_contests
    from ponder.evals.made_up_contests import made_up_contests, made_up_tries

    if made_up == (submissions is not None):
        raise ConfigError("give the submissions and --contest FILE, or --made-up, which needs neither")
    if made_up and (contests or language):
        raise ConfigError("--made-up has contests and a language of its own: leave out --contest and --language")
    if not made_up and (rating, rounds, humans, seed) != (1700, 12, 1000, 0):
        raise ConfigError(
            "--rating, --rounds, --humans and --seed are of --made-up contests: add that, or leave these out"
        )
    if made_up:
        rounds_held = made_up_contests(num=rounds, num_humans=humans, seed=seed)
        made = made_up_tries(rounds_held, rating=rating, seed=seed, num_tries=tries)
        found = rate(rounds_held, made, rule=rule, num_tries=tries)
    elif not contests or submissions is None:
        raise ConfigError("name the contests: --contest rounds/ (docs/code_contests.md shows a file)")
    else:
        found = rate(read_contests(contests), read_tries(submissions, language=language), rule=rule, num_tries=tries)
    if as_json:
        true = {"true_rating": rating} if made_up else {}
        print(json.dumps(encode({**encode(found), **true}), ensure_ascii=False))
        return
    _print(found)
    if made_up:
        print(f"the made-up model's true rating is {rating:.0f}")


@contest.command("standings")
def standings(
    answer: Annotated[Path, typer.Argument(help="The answer of the public API to contest.standings, as a file.")],
    ratings: Annotated[Path, typer.Argument(help="Its answer to contest.ratingChanges of the same round.")],
    out: Annotated[Path, typer.Option(help="Where the contest goes, for `ponder contest rate --contest`.")],
    as_json: opt.Json = False,
) -> None:
    """Make a contest file from standings of Codeforces that you fetched. Handles are not kept."""
    from ponder.evals.contests import from_standings, read_json, write_contest
    from ponder.files import refuse_overwriting

    refuse_overwriting(out, answer, ratings)
    made = from_standings(read_json(answer), read_json(ratings), str(answer))
    write_contest(made, out)
    facts = {"id": made.id, "kind": made.kind, "humans": made.num_humans, "problems": len(made.problems)}
    finish({**facts, "out": str(out)}, f"{out}: {made.num_humans} rated humans, {len(made.problems)} problems", as_json)


@contest.command("problems")
def problems(
    rounds: Annotated[list[str], typer.Argument(help="Codeforces rounds by number, e.g. 1349 1350.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file, one problem a line, for --task stdio:FILE.")],
    as_json: opt.Json = False,
) -> None:
    """Fetch the problems of Codeforces rounds with their official tests, from the hub (open-r1/codeforces)."""
    from ponder.tasks.codeforces import codeforces_rows, write_rows

    rows = codeforces_rows(rounds)
    write_rows(rows, out)
    incomplete = {row["id"]: row["incomplete"] for row in rows if not row["complete"]}
    note = f"; no rating from {', '.join(f'{name} ({why})' for name, why in incomplete.items())}" if incomplete else ""
    finish(
        {"problems": len(rows), "incomplete": incomplete, "out": str(out)},
        f"{out}: {len(rows)} problems{note}",
        as_json,
    )


@contest.command("place")
def place(
    score: Annotated[float, typer.Argument(help="A total, e.g. of the six problems of an olympiad.")],
    among: Annotated[Path, typer.Option(help="Published standings: .csv with a line of names, or .json.")],
    column: Annotated[str, typer.Option(help="Where the totals are; default: total, score, global or points.")] = "",
    as_json: opt.Json = False,
) -> None:
    """Say where a total stands among the humans of an olympiad, from standings that you bring."""
    from ponder.evals.codec import encode
    from ponder.evals.standings import place_in, read_scores

    found = place_in(read_scores(among, column=column), score)
    finish(encode(found), str(found), as_json)


def _print(found: ContestRating) -> None:
    from ponder.evals.contest_rating import MODES
    from ponder.evals.tables import Table

    head = ("contest", "date", "solved", "points", "of", "humans", "place", "beaten", "rating alone")
    rows = [
        (
            line.contest, line.date, f"{line.num_solved} of {line.num_problems}", f"{line.points:g}",
            f"{line.max_points:g}", line.num_humans, "–" if line.place is None else f"{line.place:g}",
            "–" if line.share_beaten is None else f"{100 * line.share_beaten:.1f}%",
            "–" if line.rating is None else f"{line.rating:.0f}",
        )
        for line in found.contests
    ]  # fmt: skip
    title = f"rule {found.rule}, {found.num_tries} tries a problem, language: {found.language}"
    print_tables([Table(title, head, rows)])
    print(MODES[found.mode])
    if found.rating is None:
        print(f"points: {sum(line.points for line in found.contests):g}")
    else:
        print(rating_sentence(found.rating))
        if found.codeelo is not None:
            cut = f", {found.codeelo_cut} of them cut at their bounds" if found.codeelo_cut else ""
            print(f"mean of the contests' own ratings (CodeElo's way): {found.codeelo:.0f}{cut}")
    for each in found.percentiles:
        print(each)
    for line in found.contests:
        for mark in line.marks:
            print(f"note: {line.contest}: {mark}")
    for reason in found.refused:
        print(f"not counted: {reason}")


def rating_sentence(rated: Rated) -> str:
    """1673 (95 %: 1561 to 1785; jackknife over 12 contests)."""
    low, high = (f"{end:.0f}" if math.isfinite(end) else "no limit" for end in (rated.low, rated.high))
    if rated.value is None:
        sign, what = (">", "everybody was beaten") if rated.high == math.inf else ("<", "nobody was beaten")
        return f"rating {sign} {rated.bound:.0f}: {what} (95 %: {low} to {high}; {rated.interval})"
    return f"rating {rated.value:.0f} (95 %: {low} to {high}; {rated.interval})"
