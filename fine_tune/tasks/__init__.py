"""Tasks: the table, the reader of their files, the official archives, a generated corpus."""
