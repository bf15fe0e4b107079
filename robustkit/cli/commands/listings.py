"""Commands that list models, data and attacks. They answer without torch where they can."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models."""
    from robustkit.cli import terminal
    from robustkit.data.names import data_names
    from robustkit.models.names import model_names

    terminal.show_names("Models (--model)", model_names())
    terminal.show_names("Data (--data)", data_names())


@click.command()
@click.argument("name", required=False)
def attacks(name: str | None) -> None:
    """List the attacks, or describe one; NAME foolbox lists those that run as foolbox:NAME."""
    from robustkit.cli import attack_pages
    from robustkit.cli.attack_catalogue import catalogue, entry_of

    ours = catalogue()
    if name is None:
        attack_pages.show_attacks(ours.values())
        click.echo("\nfoolbox:NAME runs any attack of foolbox; robustkit attacks foolbox lists them")
        return
    if name in ours:
        attack_pages.show_attack(ours[name])
        return
    # What is foolbox's, and what there is not, comes with torch, which takes seconds.
    from robustkit.attacks.foolbox_bridge.attack import foolbox_attack, foolbox_names
    from robustkit.cli.parsing import attack_kind

    if name == "foolbox":
        theirs = {foolbox_attack(each).name: foolbox_attack(each) for each in foolbox_names()}  # each once
        attack_pages.show_attacks(map(entry_of, theirs.values()))
    else:
        attack_pages.show_attack(entry_of(attack_kind(name)))
