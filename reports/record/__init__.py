"""Record of an audit as data: report.json and back, its consistency and statistics."""
