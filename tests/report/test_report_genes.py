from __future__ import annotations

from pathlib import Path

import pytest
from fakes.screen_runs import make_screen_run

from perturbrl import paths, records
from perturbrl.report.collect import collect
from perturbrl.report.held_out import gather
from perturbrl.report.held_out_genes import SHOWN, gene_note
from perturbrl.report.held_out_section import header

INDUCED = {"n": 9, "names": [f"ISG{k}" for k in range(9)]}


def test_genes_that_are_induced_or_left_out_are_named_in_the_note(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)
    file = run / paths.EVALUATION / paths.SUMMARY
    summary = records.read_json(file)
    summary["header"] |= {"induced_genes": INDUCED, "untested_genes": {"n": 1, "names": ["XIST"]}}
    records.write_json(file, summary)
    text = header(gather(collect([tmp_path]))[0])
    assert "9 (ISG0, ISG1, ISG2, ISG3, ISG4, ISG5, ...)" in text and "1 (XIST)." in text
    assert f"ISG{SHOWN}" not in text


@pytest.mark.parametrize(("n_low", "shown"), [(1, True), (2, False)])
def test_a_column_that_the_true_mean_fails_for_most_runs_is_no_headline(
    tmp_path: Path, n_low: int, shown: bool
) -> None:
    for seed in range(3):
        run = make_screen_run(tmp_path, seed=seed, split_seed=seed)
        file = run / paths.EVALUATION / paths.SUMMARY
        summary = records.read_json(file)
        summary["header"]["low_ceiling"] = ["de_mcc"] if seed < n_low else []
        records.write_json(file, summary)
    (table,) = gather(collect([tmp_path]))
    assert ("de_mcc" in table.columns.ranking) is shown
    assert ("DE MCC: even the true mean" in header(table)) is not shown


def test_several_evaluations_give_a_range_and_old_ones_nothing() -> None:
    fewer = {"header": {"induced_genes": {"n": 2, "names": ["A", "B"]}, "untested_genes": {"n": 0, "names": []}}}
    text = gene_note([fewer, {"header": {"induced_genes": INDUCED}}, {}])
    assert "2 to 9 (ISG0" in text and "neither" not in text
    assert gene_note([{"header": {"n_test": 3}}, {}]) == ""
