"""The code that makes the sample company's flows: cover sheets, registers and labelled rows from the files in `text`."""
