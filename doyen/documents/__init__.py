"""Files → Documents: text, page map, headings and rows. Knows no chunks and no store."""
