"""An expert's adapter → a folder that other engines load, read back and scored before it is called done."""
