"""Planted corpora: invented companies whose right arm is known by construction. Documents, questions, changes; no model.

names.py      a seed → invented names, none twice
corpus.py     what a corpus holds; rows of a questions file
numbers.py    many facts, each a number in a document; they change
slips.py      a house format to be filled from documents that change
codes.py      stable house codes, which no document tells
orders.py     a fixed house style for what the question says
messages.py   questions that hold their own answer
scenarios.py  the twelve scenarios, their labels and why
"""
