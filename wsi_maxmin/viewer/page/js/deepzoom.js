// OpenSeadragon over the server's slide tiles, or over nothing where the slide is not there.

import { pixelsUrl } from "./api.js";

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function openViewer(element, about) {
  const viewer = OpenSeadragon({
    element,
    tileSources: [about.slide ? slideSource(about) : blankSource(about)],
    // Two-dimensional canvas: the same pixels on every machine, remote desktops without a GPU among them.
    drawer: "canvas",
    showNavigationControl: false,
    animationTime: reducedMotion() ? 0 : 0.5,
    springStiffness: 9,
    maxZoomPixelRatio: 8,
    minZoomImageRatio: 0.6,
    visibilityRatio: 0.4,
    imageLoaderLimit: 6,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { clickToZoom: false },
  });
  // Arrows, + and - are OpenSeadragon's; its letters would turn and mirror the slide.
  viewer.addHandler("canvas-key", (event) => {
    const key = event.originalEvent.key;
    if (!key.startsWith("Arrow") && !["+", "-", "="].includes(key)) event.preventDefaultAction = true;
  });
  return viewer;
}

function source(about, levels, tile) {
  const [width, height] = about.size;
  return new OpenSeadragon.TileSource({ width, height, tileSize: tile, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1 });
}

function slideSource(about) {
  const { tile, levels } = about.slide;
  const found = source(about, levels, tile);
  found.getTileUrl = (level, column, row) => pixelsUrl(about, levels - 1 - level, column, row);
  return found;
}

/** A slide of one transparent tile: it gives the map a place. */
function blankSource(about) {
  const found = source(about, 1, Math.max(...about.size));
  found.getTileUrl = () => "blank";
  found.downloadTileStart = (job) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    job.finish(canvas.getContext("2d"), null, "context2d");
  };
  return found;
}
