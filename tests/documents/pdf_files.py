"""PDFs for tests, drawn with reportlab: lines at places, with fonts and sizes."""

import io

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas


def make_pdf(pages, title="", encrypt=None, size=A4, rotation=0):
    """Each page is a list of lines: texts from the top down, or `(x, y, text, font, size)`, the last two optional.

    With a `rotation` the page is stored turned, as landscape tables are, and shown upright.
    """
    buffer = io.BytesIO()
    width, height = size
    canvas = Canvas(buffer, pagesize=size, encrypt=encrypt)  # as shown: reportlab turns the page itself
    origin = {90: (height, 0), 180: (width, height), 270: (0, width)}.get(rotation)
    canvas.setTitle(title)
    for lines in pages:
        if origin:
            canvas.setPageRotation(rotation)
            canvas.translate(*origin)
            canvas.rotate(rotation)
        for n, line in enumerate(lines):
            x, y, text, *font = (60, 780 - 16 * n, line) if isinstance(line, str) else line
            canvas.setFont(*(font or ("Helvetica", 10)))
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def table(rows, top=700, step=14, label=60, columns=(400, 480), size=9):
    """Return lines of rows `(label, number, number…)`; the numbers are placed at the columns, None leaves one out."""
    lines = []
    for n, (name, *numbers) in enumerate(rows):
        y = top - step * n
        if name:
            lines.append((label, y, name, "Helvetica", size))
        lines += [(x, y, v, "Helvetica", size) for x, v in zip(columns, numbers, strict=False) if v]
    return lines
