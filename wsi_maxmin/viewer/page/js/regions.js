// The list of conspicuous regions: a click, or a key, flies there.

import * as api from "./api.js";
import { area, element, value } from "./format.js";
import { inSlidePixels } from "./overlay.js";

const LEAST_UM = 400;
const PATIENCE_MS = 250;

export class Regions {
  #found = [];
  #current = -1;
  #latest = 0;
  #timer = 0;

  constructor(about, state, camera, overlay, announce) {
    Object.assign(this, { about, state, camera, overlay, announce });
    this.list = document.querySelector("#regions");
    this.note = document.querySelector("#regions-note");
    this.tabs = [...document.querySelectorAll("[name=list]")];
    for (const tab of this.tabs) {
      tab.closest("label").hidden = !this.#channelOf(tab.value);
      tab.addEventListener("change", () => state.set({ list: tab.value }));
    }
    state.on(["list"], () => {
      state.set({ channel: this.#channelOf(state.get("list")) });
      this.load();
    });
    state.on(["thresholds"], () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.load(), PATIENCE_MS);
    });
    overlay.add((context, camera) => this.#draw(context, camera));
  }

  #channelOf(list) {
    const { channels, main } = this.about.map;
    if (list === "uncertain") return channels.includes("uncertainty") ? "uncertainty" : null;
    return main;
  }

  async load() {
    const channel = this.#channelOf(this.state.get("list"));
    const wanted = this.state.get("thresholds")[channel];
    const key = `${channel} ${wanted}`;
    if (key === this.#latest) return;
    this.#latest = key;
    const { threshold, seen, pixel_um: pixel, regions } = await api.regions(this.about.id, channel, wanted);
    if (key !== this.#latest) return; // the user went on meanwhile
    this.#latest = `${channel} ${threshold}`;
    this.#found = regions;
    this.#current = -1;
    const nothing = seen ? `Nothing has ${channel} ≥ ${value(threshold)}.` : "No tissue of this slide was looked at, so there is no score.";
    this.note.textContent = regions.length
      ? `${channel} ≥ ${value(threshold)}, highest first; areas at ${pixel.toPrecision(2)} µm a pixel`
      : nothing;
    this.list.replaceChildren(...regions.map((region, index) => this.#item(region, index)));
    if (this.state.get("thresholds")[channel] === undefined) this.state.setThreshold(threshold, channel);
    this.overlay.invalidate();
  }

  #item(region, index) {
    const button = element(
      "button",
      { type: "button", className: "region" },
      element("span", { className: "rank", textContent: index + 1 }),
      element("span", { className: "bar" }, element("span", { className: "fill" })),
      element("span", { className: "number", textContent: value(region.highest) }),
      element("span", { className: "dim", textContent: area(region.area_um2) }),
    );
    button.querySelector(".fill").style.width = `${100 * region.highest}%`;
    button.ariaLabel = `Region ${index + 1}: highest ${value(region.highest)}, mean ${value(region.mean)}, ${area(region.area_um2)}`;
    button.addEventListener("click", () => this.go(index));
    return element("li", {}, button);
  }

  /** Fly to a region of the list. */
  go(index) {
    const region = this.#found[index];
    if (!region) return;
    this.#current = index;
    [...this.list.children].forEach((item, at) => {
      if (at === index) item.firstChild.setAttribute("aria-current", "true");
      else item.firstChild.removeAttribute("aria-current");
    });
    const item = this.list.children[index];
    // Only the list scrolls: in a narrow window scrollIntoView would move the slide away.
    if (item.offsetTop < this.list.scrollTop || item.offsetTop + item.offsetHeight > this.list.scrollTop + this.list.clientHeight) {
      this.list.scrollTop = item.offsetTop - this.list.clientHeight / 2;
    }
    this.camera.fit(region, { margin: 0.3, least: LEAST_UM });
    this.overlay.invalidate();
    this.announce(`Region ${index + 1} of ${this.#found.length}: highest ${value(region.highest)}, ${area(region.area_um2)}`);
  }

  /** Step to the next region, or with -1 to the one before. */
  step(by) {
    const count = this.#found.length;
    if (count) this.go(this.#current < 0 ? (by > 0 ? 0 : count - 1) : (this.#current + by + count) % count);
  }

  #draw(context, camera) {
    const region = this.#found[this.#current];
    if (!region) return;
    context.save();
    const pixel = inSlidePixels(context, camera);
    const gap = 6 * pixel;
    const [width, height] = [region.width + 2 * gap, region.height + 2 * gap];
    const corner = Math.min(width, height, 60 * pixel) / 4;
    const [left, top] = [region.x - gap, region.y - gap];
    context.beginPath();
    for (const [x, y, across, down] of [
      [left, top, 1, 1],
      [left + width, top, -1, 1],
      [left + width, top + height, -1, -1],
      [left, top + height, 1, -1],
    ]) {
      context.moveTo(x + across * corner, y);
      context.lineTo(x, y);
      context.lineTo(x, y + down * corner);
    }
    for (const [colour, line] of [["white", 5], ["#0b6bcb", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = line * pixel;
      context.stroke();
    }
    context.restore();
  }
}
