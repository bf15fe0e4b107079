"""Citations of the papers behind the checks and the remedies: the one table that both draw on."""

from __future__ import annotations

WILSON = "Wilson 1927"
CARLINI_WAGNER = "Carlini & Wagner 2016, arXiv 1607.04311"
ATHALYE = "Athalye, Carlini & Wagner 2018, arXiv 1802.00420"
CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
SQUARE = "Andriushchenko et al. 2020, arXiv 1912.00049"
TRAMER = "Tramèr et al. 2020, arXiv 2002.08347"
AUTOATTACK = "Croce & Hein 2020, arXiv 2003.01690"
PINTOR = "Pintor et al. 2022, arXiv 2106.09947"
TEST_TIME = "Croce et al. 2022, arXiv 2202.13711"
ZIMMERMANN = "Zimmermann et al. 2022, arXiv 2206.13991"


def cite(*papers: str) -> str:
    """Several citations in one line, each once.

    >>> cite("Wilson 1927", "Gauss 1809", "Wilson 1927")
    'Wilson 1927; Gauss 1809'
    """
    return "; ".join(dict.fromkeys(papers))
