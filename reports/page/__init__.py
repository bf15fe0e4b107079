"""index.html: sections, tables and charts drawn from a record."""
