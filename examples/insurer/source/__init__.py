"""The sources of the sample company: text files and the facts that the tables and questions are made of."""
