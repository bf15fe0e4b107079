"""Audits: plan, worker, results, stages and gates."""
