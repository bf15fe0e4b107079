"""The files of a report: the page, JUnit, Markdown."""
