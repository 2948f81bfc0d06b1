"""Flags: declared once, as fields; read from a command, saved, read back."""
