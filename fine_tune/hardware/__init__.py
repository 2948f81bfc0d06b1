"""Devices, processes, precision, seeds, threads; cpu/ has operators for CPUs."""
