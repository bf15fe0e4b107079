"""Presets, norms of attacks on the command line, and the listing of attacks."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from audit_tools import Cli

from robustkit import reports
from robustkit.attacks.foolbox_bridge.attack import foolbox_attack, foolbox_names
from robustkit.attacks.geometry import norms
from robustkit.attacks.registry import ATTACKS
from robustkit.cli import attack_catalogue
from robustkit.cli.parsing import DEFAULT_ATTACKS, PRESETS, attack_kind, parse_attack, preset_attacks
from robustkit.errors import ConfigError

RUN = ("audit", "--model", "lenet-mnist", "--samples", "3", "--eps", "0.1", "--device", "cpu")


def names(folder: Path) -> list[str]:
    record = reports.AuditRecord.from_json((folder / "report.json").read_text("utf-8"))
    return [attack.name for attack in record.attacks]


@pytest.mark.parametrize("norm", norms.NORMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_set_of_attacks_that_work_in_the_norm(preset: str, norm: str) -> None:
    attacks = [parse_attack(spec, norm) for spec in preset_attacks(preset, norm)]
    assert len({attack.name for attack in attacks}) == len(attacks)
    if preset == "thorough":
        assert any(attack.control for attack in attacks)
        assert any(attack.minimum_norm for attack in attacks)
        assert all(attack.norm == norm for attack in attacks)


def test_the_standard_preset_is_the_default() -> None:
    assert preset_attacks("standard", "linf") == DEFAULT_ATTACKS


def test_a_preset_on_the_command_line_and_in_a_file(cli: Cli, tmp_path: Path) -> None:
    assert cli(*RUN, "--preset", "quick", "--out", tmp_path / "words").status == 0
    assert names(tmp_path / "words") == ["fgsm", "pgd"]
    config = tmp_path / "audit.toml"
    config.write_text('preset = "quick"\n')
    assert cli(*RUN, "--config", config, "--out", tmp_path / "file").status == 0
    assert names(tmp_path / "file") == ["fgsm", "pgd"]


def test_the_command_line_goes_before_the_file(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "audit.toml"
    config.write_text('preset = "quick"\n')
    assert cli(*RUN, "--config", config, "--attack", "bim:steps=2", "--out", tmp_path / "a").status == 0
    assert names(tmp_path / "a") == ["bim"]
    config.write_text('attack = ["bim:steps=2"]\n')
    assert cli(*RUN, "--config", config, "--preset", "quick", "--out", tmp_path / "b").status == 0
    assert names(tmp_path / "b") == ["fgsm", "pgd"]


def test_bad_presets_are_one_line(cli: Cli, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "did you mean quick" in cli.refuses(*RUN, "--preset", "quik", *out)
    assert "there is no preset ''" in cli.refuses(*RUN, "--preset", "", *out)
    assert "give one of them" in cli.refuses(*RUN, "--preset", "quick", "--attack", "fgsm", *out)
    config = tmp_path / "audit.toml"
    config.write_text('preset = "quick"\nattack = "fgsm"\n')
    assert "give one of them" in cli.refuses(*RUN, "--config", config, *out)
    config.write_text('preset = ["quick"]\n')
    assert "one value" in cli.refuses(*RUN, "--config", config, *out)
    assert not (tmp_path / "out").exists()


# Norms


@pytest.mark.parametrize("norm", norms.NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_the_audits_norm_where_it_can(name: str, norm: str) -> None:
    kind = ATTACKS[name]
    if not kind.ball:
        assert parse_attack(name, norm).norm == ""
    elif norm in kind.norms:
        assert parse_attack(name, norm).norm == norm
    else:
        says = f"^{name} works in .*, not in {norm}: use --norm {kind.norms[0]}"
        if kind.minimum_norm:
            assert parse_attack(name, norm).norm in kind.norms
        else:
            with pytest.raises(ConfigError, match=says):
                parse_attack(name, norm)
        with pytest.raises(ConfigError, match=says):
            parse_attack(name, norm, strict=True)


def test_an_attack_that_lacks_the_norm_that_was_asked_for_is_refused(cli: Cli, tmp_path: Path) -> None:
    cw, out = "cw:steps=5,searches=1", tmp_path / "out"
    config = tmp_path / "audit.toml"
    config.write_text('norm = "linf"\n')
    for words in (("--norm", "linf"), ("--config", config)):
        says = cli.refuses(*RUN, "--attack", "fgsm", "--attack", cw, *words, "--out", out)
        assert says == "robustkit: cw works in l2, not in linf: use --norm l2"
    assert not out.exists()
    assert "(searches in L2)" in cli(*RUN, "--attack", cw, "--out", out).stdout  # nobody asked for a norm
    done = cli(*RUN, "--preset", "standard", "--norm", "linf", "--out", out)
    assert done.status == 0
    assert names(out) == ["fgsm", "pgd", "lbfgs"]


# The listing


def test_the_catalogue_is_current() -> None:
    assert attack_catalogue.FILE.read_text("utf-8") == attack_catalogue.current(), (
        "run python -m robustkit.cli.attack_catalogue"
    )


def test_every_attack_is_listed_with_what_it_sees_and_finds(cli: Cli) -> None:
    done = cli("attacks")
    assert done.status == 0
    for name, kind in ATTACKS.items():
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"{name} "))
        assert {"gradient": "white box", "scores": "scores", "labels": "labels"}[kind.access] in row
        assert ("smallest" if kind.minimum_norm else "within ε" if kind.ball else "other") in row
        assert ("L∞" in row) == (kind.ball and "linf" in kind.norms)
        assert kind.title in row
    assert "foolbox:NAME" in done.stdout


def listed(cli: Cli, columns: int | None, *words: str) -> str:
    """The output on a terminal of so many columns, or into a pipe."""
    terminal = {"COLUMNS": str(columns), "FORCE_COLOR": "1", "TERM": "xterm"} if columns else {}
    out, _ = cli.start("attacks", *words, **terminal).communicate(timeout=600)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "…" not in plain
    assert max(map(len, plain.splitlines())) <= (columns or 80)
    return plain


@pytest.mark.parametrize("columns", [None, 80, 120, 200])
def test_the_listing_fits_the_columns_and_loses_nothing(cli: Cli, columns: int | None) -> None:
    plain = " ".join(listed(cli, columns).split())
    for entry in attack_catalogue.catalogue().values():
        assert f"{entry.title} {entry.paper}" in plain
        for each in entry.parameters:
            assert each.name in ("norm", "eps") or f"{each.name}={each.default}" in plain


@pytest.mark.parametrize("columns", [None, 80])
def test_foolboxs_attacks_fit_the_columns_and_lose_nothing(cli: Cli, columns: int | None) -> None:
    plain = listed(cli, columns, "foolbox")
    kinds = {foolbox_attack(name).name: foolbox_attack(name) for name in foolbox_names()}
    assert [line for line in plain.splitlines() if line.startswith("foolbox:")] == list(kinds)
    assert all(kind.paper in " ".join(plain.split()) for kind in kinds.values())


@pytest.mark.parametrize("columns", [None, 80, 120])
@pytest.mark.parametrize("name", ["pgd", "cw"])
def test_the_page_of_an_attack_is_laid_out_anew_for_the_columns(cli: Cli, name: str, columns: int | None) -> None:
    plain = listed(cli, columns, name)
    entry = attack_catalogue.catalogue()[name]
    assert " ".join(entry.text.split()) in " ".join(plain.split())
    heads = [re.findall(r"^    \w+: ", text, re.M) for text in (entry.text, plain)]
    assert heads[0] == heads[1] != []  # items stay apart


@pytest.mark.parametrize("name", ATTACKS)
def test_one_attack_with_its_docstring_parameters_types_and_defaults(cli: Cli, name: str) -> None:
    done = cli("attacks", name)
    assert done.status == 0
    kind = ATTACKS[name]
    assert kind.__doc__
    assert kind.__doc__.splitlines()[0][:60] in done.stdout
    assert ">>>" not in done.stdout
    rows = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    for field in dataclasses.fields(kind):
        if field.init:
            assert field.name in rows
    if name == "pgd":
        assert re.search(r"^steps +whole number +40", done.stdout, re.M)
        assert re.search(r"^step_size +number or none +none", done.stdout, re.M)
        assert re.search(r"^eps +number, from --eps", done.stdout, re.M)


def test_an_attack_of_foolbox_with_its_docstring_and_parameters(cli: Cli) -> None:
    done = cli("attacks", "foolbox:HopSkipJumpAttack")
    assert done.status == 0
    assert "arxiv.org/abs/1904.02144" in done.stdout
    assert re.search(
        r"^stepsize_search +geometric_progression or grid_search +geometric_progression", done.stdout, re.M
    )


def test_foolboxs_attacks_are_listed(cli: Cli) -> None:
    done = cli("attacks", "foolbox")
    assert done.status == 0
    assert done.stdout.count("foolbox:") > 50
    assert attack_kind("foolbox:LinfPGD").name in done.stdout


def test_an_unknown_attack_is_one_line(cli: Cli) -> None:
    assert "did you mean pgd" in cli.refuses("attacks", "pdg")
    assert "did you mean LinfDeepFoolAttack" in cli.refuses("attacks", "foolbox:LinfDeepFool")
    assert "extra" in cli.refuses("attacks", "pgd", "extra")
