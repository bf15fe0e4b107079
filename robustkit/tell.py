"""The commands that only tell what there is: models, data and attacks. They answer without torch where they can."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models."""
    from robustkit import terminal
    from robustkit.loading.names import data_names, model_names

    terminal.show_names("Models (--model)", model_names())
    terminal.show_names("Data (--data)", data_names())


@click.command()
@click.argument("name", required=False)
def attacks(name: str | None) -> None:
    """List the attacks, or tell all about one; NAME foolbox lists those that run as foolbox:NAME."""
    from robustkit import listing
    from robustkit.catalogue import catalogue, entry_of

    ours = catalogue()
    if name is None:
        listing.show_attacks(ours.values())
        click.echo("\nfoolbox:NAME runs any attack of foolbox; robustkit attacks foolbox lists them")
        return
    if name in ours:
        listing.show_attack(ours[name])
        return
    # What is foolbox's, and what there is not, comes with torch, which takes seconds.
    from robustkit.attacks.foolbox import foolbox_attack, foolbox_names
    from robustkit.config import attack_kind

    if name == "foolbox":
        theirs = {foolbox_attack(each).name: foolbox_attack(each) for each in foolbox_names()}  # each once
        listing.show_attacks(map(entry_of, theirs.values()))
    else:
        listing.show_attack(entry_of(attack_kind(name)))
