"""Files of a report: the page, JUnit, Markdown."""
