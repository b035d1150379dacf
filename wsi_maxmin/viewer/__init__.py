"""A local page that shows slides with their heatmaps, and napari with the same layers."""
