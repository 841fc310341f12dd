"""Experts × questions → comparison → choice and report."""
