"""hardware.cpu."""
