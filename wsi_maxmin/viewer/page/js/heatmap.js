// The heatmap: raw values from the server, coloured here, so that no slider waits for a request.

import * as api from "./api.js";
import { colours, middleOf } from "./colormaps.js";
import { contourPath } from "./contours.js";
import { cutOf } from "./state.js";

const KEPT_TILES = 96;

/** Colour of each value as RGBA bytes: fully drawn or not at all; the opacity is laid on later. */
export function paintOf(colormap, middle, cut, fill) {
  const paint = new Uint8ClampedArray(4 * 256);
  colours(colormap, middle).forEach((colour, value) => {
    paint.set(colour, 4 * value);
    paint[4 * value + 3] = fill === "all" || value >= cut ? 255 : 0;
  });
  return new Uint32Array(paint.buffer);
}

export class Heatmap {
  #tiles = new Map();
  #paint = null;
  #painted = "";

  /** `changed` is called when a tile has come; `failed` with the reason when one has not. */
  constructor(about, state, changed, failed) {
    this.about = about;
    this.levels = about.map.levels;
    this.state = state;
    this.changed = changed;
    this.failed = failed;
    state.on(["channel", "colormap", "fill", "thresholds"], () => this.#refresh());
    this.#refresh();
  }

  #refresh() {
    const { state } = this;
    this.cut = state.threshold === undefined ? 256 : cutOf(state.threshold);
    const painted = [state.get("colormap"), middleOf(this.about, state.get("channel")), this.cut, state.get("fill")];
    this.#painted = painted.join();
    this.#paint = paintOf(...painted);
  }

  /** The finest level whose pixels are not smaller than the screen's. */
  levelFor(scale) {
    const fine = this.levels.findIndex(({ step }) => step[0] * scale * devicePixelRatio >= 1 - 1e-6);
    return fine < 0 ? this.levels.length - 1 : fine;
  }

  /** Call `each(column, row)` for the tiles of a level that a rectangle of level-0 px touches. */
  #over(level, box, each) {
    const { size, origin, step } = this.levels[level];
    const side = this.about.map.tile;
    const span = [0, 1].map((axis) => {
      const [start, length] = axis ? [box.y, box.height] : [box.x, box.width];
      const first = Math.floor((start - origin[axis]) / step[axis] / side);
      const last = Math.floor((start + length - origin[axis]) / step[axis] / side);
      return [Math.max(first, 0), Math.min(last, Math.ceil(size[axis] / side) - 1)];
    });
    for (let row = span[1][0]; row <= span[1][1]; row++) {
      for (let column = span[0][0]; column <= span[0][1]; column++) each(column, row);
    }
  }

  /** Return a tile, and ask for it where it is not here yet. */
  #tile(level, column, row) {
    const channel = this.state.get("channel");
    const key = `${channel}/${level}/${column}_${row}`;
    let tile = this.#tiles.get(key);
    this.#tiles.delete(key);
    if (!tile) tile = this.#ask(channel, level, column, row);
    this.#tiles.set(key, tile);
    while (this.#tiles.size > KEPT_TILES) this.#tiles.delete(this.#tiles.keys().next().value);
    return tile;
  }

  #ask(channel, level, column, row) {
    const side = this.about.map.tile;
    // A tile brings the first row and column of its neighbours, for contours that meet.
    const [width, height] = this.levels[level].size.map((size, axis) => Math.min(side + 1, size - [column, row][axis] * side));
    const tile = { width, height, across: Math.min(width, side), down: Math.min(height, side), level, column, row };
    api
      .values(this.about, channel, level, column, row)
      .then((found) => {
        // For contours what was not seen is 0.
        Object.assign(tile, found, { shown: found.values.map((value, index) => value * found.seen[index]) });
        this.changed();
      })
      .catch((error) => this.failed(`The heatmap cannot be read: ${error.message}`));
    return tile;
  }

  #peek(level, column, row) {
    const tile = this.#tiles.get(`${this.state.get("channel")}/${level}/${column}_${row}`);
    return tile?.values ? tile : null;
  }

  #canvasOf(tile) {
    if (tile.painted === this.#painted) return tile.canvas;
    tile.canvas ??= Object.assign(document.createElement("canvas"), { width: tile.across, height: tile.down });
    const context = tile.canvas.getContext("2d");
    const image = context.createImageData(tile.across, tile.down);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0, to = 0; row < tile.down; row++) {
      for (let from = row * tile.width, stop = from + tile.across; from < stop; from++, to++) {
        if (tile.seen[from]) pixels[to] = this.#paint[tile.values[from]];
      }
    }
    context.putImageData(image, 0, 0);
    tile.painted = this.#painted;
    return tile.canvas;
  }

  /** Where column and row of a level's pixels are on the canvas, device px. */
  #place(level, camera) {
    const { origin, step } = this.levels[level];
    const ratio = devicePixelRatio;
    return {
      x: (column) => (camera.x + (origin[0] + column * step[0]) * camera.scale) * ratio,
      y: (row) => (camera.y + (origin[1] + row * step[1]) * camera.scale) * ratio,
      step: [step[0] * camera.scale * ratio, step[1] * camera.scale * ratio],
    };
  }

  /** Draw what of the map is in `box`; a tile that has not come is replaced by a part of a coarser one. */
  draw(context, camera, box) {
    const level = this.levelFor(camera.scale);
    const side = this.about.map.tile;
    const place = this.#place(level, camera);
    context.save();
    context.globalAlpha = this.state.get("opacity");
    context.imageSmoothingEnabled = false;
    this.#over(level, box, (column, row) => {
      const tile = this.#tile(level, column, row);
      // Edges on whole screen pixels, or neighbours would show a seam.
      const [left, right] = [column * side, column * side + tile.across].map((at) => Math.round(place.x(at)));
      const [top, bottom] = [row * side, row * side + tile.down].map((at) => Math.round(place.y(at)));
      const part = tile.values ? { tile, x: 0, y: 0, width: tile.across, height: tile.down } : this.#coarser(tile);
      if (!part) return;
      const { x, y, width, height } = part;
      context.drawImage(this.#canvasOf(part.tile), x, y, width, height, left, top, right - left, bottom - top);
    });
    context.restore();
  }

  #coarser({ level, column, row, across, down }) {
    const side = this.about.map.tile;
    for (let up = level + 1; up < this.levels.length; up++) {
      const times = 2 ** (up - level);
      const tile = this.#peek(up, Math.floor(column / times), Math.floor(row / times));
      if (!tile) continue;
      const x = (column * side) / times - tile.column * side;
      const y = (row * side) / times - tile.row * side;
      return { tile, x, y, width: across / times, height: down / times };
    }
    return null;
  }

  /** Draw the contours at the threshold, at the resolution of the zoom; return of how many pieces they are. */
  drawContours(context, camera, box) {
    const level = this.levelFor(camera.scale);
    const side = this.about.map.tile;
    const place = this.#place(level, camera);
    let pieces = 0;
    context.save();
    context.lineCap = "round";
    for (const [colour, width] of [["rgb(255 255 255 / 85%)", 3.4], ["rgb(10 10 10)", 1.6]]) {
      context.strokeStyle = colour;
      this.#over(level, box, (column, row) => {
        const tile = this.#peek(level, column, row);
        if (!tile) return;
        if (tile.contouredAt !== this.cut) {
          Object.assign(tile, { contour: contourPath(tile, this.cut), contouredAt: this.cut });
        }
        const [across, down] = place.step;
        context.setTransform(across, 0, 0, down, place.x(column * side), place.y(row * side));
        context.lineWidth = (width * devicePixelRatio) / across;
        context.stroke(tile.contour.path);
        pieces += tile.contour.pieces;
      });
    }
    context.restore();
    return pieces / 2;
  }

  /** Value in [0, 1] at a level-0 point as it is drawn; null where nothing was seen or nothing has come yet. */
  valueAt(x, y, scale) {
    const level = this.levelFor(scale);
    const { origin, step } = this.levels[level];
    const side = this.about.map.tile;
    const [column, row] = [Math.floor((x - origin[0]) / step[0]), Math.floor((y - origin[1]) / step[1])];
    const tile = this.#peek(level, Math.floor(column / side), Math.floor(row / side));
    if (!tile || column < 0 || row < 0) return null;
    const [inX, inY] = [column - tile.column * side, row - tile.row * side];
    if (inX >= tile.across || inY >= tile.down) return null;
    const index = inY * tile.width + inX;
    return tile.seen[index] ? tile.values[index] / 255 : null;
  }
}
