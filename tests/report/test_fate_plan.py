"""A plan in words, as a table, as a page; recipes."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from perturbrl.landscape.plan.result import ELSEWHERE, Candidate, Plan, Recipe, RecipeRank, Stability, parse
from perturbrl.report import fate_plan, recipes
from perturbrl.report.fate_plan_page import Landscape, bar, outcome_colors, outcome_names, page
from perturbrl.report.text import DASH


def candidate(rank: int, name: str, probability: float, low: float, high: float, **kept: object) -> Candidate:
    outcomes = {"red": probability, "white": 1 - probability, "black": 0.0, ELSEWHERE: 0.0}
    base = Candidate(rank, parse(name), probability, low, high, 0.02 * name.count("_"), outcomes)
    return replace(base, **kept)


NOTHING = candidate(0, "nothing", 0.1, 0.05, 0.2)
STABLE = Stability({"synchronous": 0.4, "noise 0.01": 0.8}, 0.9, 0.75, ("A -> B", "B -| C", "C -> D", "D -> E"))
BEST = candidate(1, "Gata1_oe+Pu1_ko", 0.92, 0.85, 0.97, stability=STABLE, paths=("Gata1 -> Eklf", "Gata1 -| Pu1"))
PLAN = Plan(
    *("<myeloid>", 11, "white", "red", ("Gata1 on", "Pu1 off"), "exact", "held", 2, 242, True, 40, 7, 0.95, NOTHING),
    candidates=(BEST, candidate(2, "Fog1_oe", 0.004, 0.001, 0.02)),
    notes=("10 of 11 genes of the network are in cells.h5ad.",),
)


def printed(plan: Plan, width: int = 80) -> str:
    console = Console(width=width, record=True, file=None, color_system=None)
    with console.capture() as capture:
        console.print(fate_plan.console(plan))
    return capture.get()


def test_a_set_is_put_into_words() -> None:
    assert fate_plan.in_words(parse("A_oe+B_oe+C_ko+D_oe")) == "Over-express A, B and D, knock out C"
    assert fate_plan.in_words(()) == "Do nothing"


def test_a_sentence_says_how_likely_how_sure_what_else_and_why() -> None:
    assert fate_plan.sentences(PLAN)[0] == (
        f"1. Over-express Gata1, knock out Pu1: 92% of the cells end as red (95% interval 85.0{DASH}97.0%). Others: "
        "white 8%. Through Gata1 -> Eklf; Gata1 -| Pu1. Least under other updates and noise: 40% (synchronous). "
        "It still works with 90% of the single edges deleted and 75% of them turned in sign. It needs A -> B, B -| C, "
        "C -> D and 1 more edge."
    )


def test_the_lead_says_whether_all_sets_were_tried() -> None:
    assert "all 242 sets tried" in fate_plan.lead(PLAN)
    assert "242 sets, not all, tried" in fate_plan.lead(replace(PLAN, complete=False))
    assert "242 sets proposed" in fate_plan.lead(replace(PLAN, complete=False, method="policy runs"))
    assert "40 cells" in fate_plan.lead(PLAN)
    assert "7 start states" in fate_plan.lead(replace(PLAN, n_cells=None))


def test_a_fate_that_cannot_be_reached_is_said() -> None:
    nothing = replace(NOTHING, probability=0.0)
    vain = replace(PLAN, candidates=(), nothing=nothing)
    assert fate_plan.answer(vain).startswith("No set of at most 2 genes takes white to red by this network: it cannot")
    tried = replace(vain, complete=False)
    assert fate_plan.answer(tried).startswith("No set of at most 2 genes that was tried takes")
    assert fate_plan.answer(replace(PLAN, candidates=())).endswith("does better by more than it costs.")


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.996, ">99%"), (1 - 1e-12, "100%"), (1, "100%")]
)
def test_what_is_not_quite_sure_is_not_called_sure(share: float, text: str) -> None:
    assert fate_plan.percent(share) == text


@pytest.mark.parametrize("width", [70, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    text = printed(PLAN, width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"1\s+Gata1_oe\s.*92%\s+85.97%\s+0\.04\s+0%\s+40%\s+90%\s+75%", text)
    assert re.search(r"\(nothing\)\s+10%\s+5.20%", text)


def test_a_probability_without_an_interval_is_called_exact() -> None:
    sure = replace(BEST, low=BEST.probability, high=BEST.probability)
    assert fate_plan.lines(replace(PLAN, candidates=(sure,)))[0].interval == "exact"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        self.open += [tag] if tag not in ("meta", "br", "img") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    html = page(PLAN, [Landscape("a title", '<svg viewBox="0 0 1 1"></svg>', "a landscape")])
    parser = _Links()
    parser.feed(html)
    assert parser.outside == []
    assert parser.open == []
    assert "://" not in html.replace("http://www.w3.org", "")
    assert "&lt;myeloid&gt;" in html
    assert "<myeloid>" not in html
    assert "prefers-color-scheme: dark" in html
    assert "Gata1 \N{LEFT TACK} Pu1" in html
    assert "<figcaption>a landscape</figcaption>" in html
    assert "<figure>" not in page(PLAN)


def test_a_page_without_candidates_says_so() -> None:
    html = page(replace(PLAN, candidates=()))
    assert "does better by more than it costs" in html


def test_a_bar_shows_every_outcome_once() -> None:
    assert outcome_names(PLAN) == ["red", "white"]
    pieces = bar(BEST, outcome_colors(PLAN))
    assert [p.color for p in pieces] == [0, 1]
    assert [(p.name, round(p.begin, 6), round(p.width, 6)) for p in pieces] == [("red", 0, 92), ("white", 92, 8)]


def test_ranks_of_recipes_name_the_best_only_where_it_is_another() -> None:
    recipe = Recipe("myeloid", "white", "red", parse("Gata1_oe"), "it worked", "Someone 2001, Cell 1:1")
    first = RecipeRank(recipe, 0.5, 0.0, 1, 2, 22, "Gata2_oe", 0.5)
    second = replace(first, rank=3, best="Pu1_ko", best_probability=0.75)
    text = recipes.markdown([first, second]).splitlines()
    assert text[2].endswith("| white \N{RIGHTWARDS ARROW} red | 0% | 50% | 1 | 2 | 22 |  | Someone 2001, Cell 1:1 |")
    assert "| 3 | 2 | 22 | Pu1_ko 75% |" in text[3]
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(recipes.console([first, second]))
    assert "it worked (Someone 2001, Cell 1:1); network myeloid" in capture.get()
    assert max(map(len, capture.get().splitlines())) <= 80
