"""The same work on many machines, through Ray: parsing and embedding, answering, training.

A machine of the cluster needs doyen (the same) and the models; what is written is written by the process that asked.
"""
