// The tiles that the model saw: their grid, and what it said of the one under the pointer.

import * as api from "./api.js";
import { inSlidePixels } from "./overlay.js";

const SMALLEST_PX = 7;

export class TileGrid {
  #tiles = null;
  #asked = false;
  #hovered = -1;
  #point = [-1, -1];

  constructor(about, state, overlay, show) {
    this.about = about;
    this.state = state;
    this.overlay = overlay;
    this.show = show;
    overlay.add((...drawing) => this.#draw(...drawing));
    state.on(["grid"], () => this.#load());
    if (state.get("grid")) this.#load();
  }

  async #load() {
    this.overlay.invalidate();
    if (!this.#asked && this.state.get("grid")) {
      this.#asked = true;
      this.#tiles = await api.tiles(this.about.id);
      this.overlay.invalidate();
    }
    this.#find();
  }

  /** Hear where the pointer is, level-0 px. */
  hover(x, y) {
    this.#point = [x, y];
    this.#find();
  }

  #find() {
    const best = this.#tiles && this.state.get("grid") ? this.#under(...this.#point) : -1;
    if (best === this.#hovered) return;
    this.#hovered = best;
    this.#tell();
    this.overlay.invalidate();
  }

  /** The tile whose middle is nearest to a level-0 point, among those that hold it; -1 where there is none. */
  #under(x, y) {
    const { x: left, y: top, width, height } = this.#tiles;
    let best = -1;
    let nearest = Infinity;
    for (let index = 0; index < left.length; index++) {
      const [across, down] = [x - left[index], y - top[index]];
      if (across < 0 || down < 0 || across >= width[index] || down >= height[index]) continue;
      const distance = Math.hypot(across - width[index] / 2, down - height[index] / 2);
      if (distance < nearest) [best, nearest] = [index, distance];
    }
    return best;
  }

  #tell() {
    if (this.#hovered < 0) return this.show(null);
    const values = Object.entries(this.#tiles).filter(([name]) => !["x", "y", "width", "height"].includes(name));
    this.show({
      place: `${this.#tiles.x[this.#hovered]}, ${this.#tiles.y[this.#hovered]}`,
      values: values.map(([name, column]) => [name.replaceAll("_", " "), column[this.#hovered]]),
    });
  }

  #draw(context, camera, box) {
    if (!this.#tiles || !this.state.get("grid")) return;
    const { x, y, width, height } = this.#tiles;
    context.save();
    const pixel = inSlidePixels(context, camera);
    if (width.length && width[0] * camera.scale >= SMALLEST_PX) {
      context.strokeStyle = "rgb(20 60 110 / 55%)";
      context.lineWidth = pixel;
      context.beginPath();
      for (let index = 0; index < x.length; index++) {
        const outside = x[index] > box.x + box.width || x[index] + width[index] < box.x;
        if (outside || y[index] > box.y + box.height || y[index] + height[index] < box.y) continue;
        context.rect(x[index], y[index], width[index], height[index]);
      }
      context.stroke();
    }
    if (this.#hovered >= 0) {
      const tile = [x, y, width, height].map((column) => column[this.#hovered]);
      for (const [colour, line] of [["white", 4], ["#0b6bcb", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = line * pixel;
        context.strokeRect(...tile);
      }
    }
    context.restore();
  }
}
