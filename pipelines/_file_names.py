"""What the files in the folder of one slide are called; here alone, so that looking at them loads nothing heavy."""

NAMES = HEATMAP, TILEMAPS, TILES, OVERVIEW = "heatmap.ome.zarr", "tilemaps.zarr", "tiles.parquet", "overview.png"
