"""Formats that a heatmap is written in by `infer-slide` itself, and pictures; one file each."""
