"""Passages of the expert → questions with answers and their verbatim evidence, by rules, the local model or a teacher."""
