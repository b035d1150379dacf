// The whole slide in a corner, where on it the screen is, and a click to go elsewhere.

import { middleOf } from "./colormaps.js";
import { paintOf } from "./heatmap.js";
import { cutOf } from "./state.js";
import { Thumbnail, coarseMap } from "./thumbnail.js";

const LARGEST_PX = [200, 170];
const SHARE = 0.22;

export class Minimap {
  #map = null;

  constructor(about, state, camera, viewer) {
    Object.assign(this, { about, state, camera, viewer });
    this.root = document.querySelector("#minimap");
    this.frame = this.root.querySelector(".frame");
    const { width, height } = viewer.element.getBoundingClientRect();
    const box = [width, height].map((side, axis) => Math.min(LARGEST_PX[axis], SHARE * side));
    this.thumbnail = new Thumbnail(this.root.querySelector("canvas"), about, box);
    this.root.addEventListener("pointerdown", (event) => this.#go(event));
    this.root.addEventListener("pointermove", (event) => event.buttons && this.#go(event));
    viewer.addHandler("update-viewport", () => this.#follow());
    state.on(["minimap"], () => this.#show());
    state.on(["channel"], () => this.#load());
    state.on(["colormap", "fill", "opacity", "thresholds", "map"], () => this.#draw());
    this.#show();
    this.thumbnail.load().then(() => this.#load());
  }

  #show() {
    this.root.hidden = !this.state.get("minimap");
  }

  async #load() {
    const channel = this.state.get("channel");
    const map = await coarseMap(this.about, channel);
    if (channel !== this.state.get("channel")) return;
    this.#map = map;
    this.#draw();
  }

  #draw() {
    const { state } = this;
    const cut = state.threshold === undefined ? 256 : cutOf(state.threshold);
    const map = state.get("map") ? this.#map : null;
    const middle = middleOf(this.about, state.get("channel"));
    const paint = paintOf(state.get("colormap"), middle, cut, state.get("fill"));
    this.thumbnail.draw(map, paint, Math.max(state.get("opacity"), 0.6));
    this.#follow();
  }

  #follow() {
    const box = this.camera.visible();
    const { width, height } = this.root.querySelector("canvas").getBoundingClientRect();
    const scale = this.thumbnail.scale / devicePixelRatio;
    const left = Math.max(box.x * scale, 0);
    const top = Math.max(box.y * scale, 0);
    const style = this.frame.style;
    style.left = `${left}px`;
    style.top = `${top}px`;
    style.width = `${Math.max(Math.min((box.x + box.width) * scale, width) - left, 3)}px`;
    style.height = `${Math.max(Math.min((box.y + box.height) * scale, height) - top, 3)}px`;
  }

  #go(event) {
    const bounds = this.root.querySelector("canvas").getBoundingClientRect();
    const scale = this.thumbnail.scale / devicePixelRatio;
    const point = [event.clientX - bounds.left, event.clientY - bounds.top].map((at) => at / scale / this.about.size[0]);
    this.viewer.viewport.panTo(new OpenSeadragon.Point(...point));
    this.viewer.viewport.applyConstraints();
  }
}
