// All slides of a run as cards, the most conspicuous first.

import * as api from "./api.js";
import { middleOf } from "./colormaps.js";
import { area, element, value } from "./format.js";
import { paintOf } from "./heatmap.js";
import { addHelp } from "./keys.js";
import { cutOf } from "./state.js";
import { Thumbnail, coarseMap } from "./thumbnail.js";

const BOX = [280, 200];
const ORDERS = {
  highest: (one, other) => other.highest - one.highest,
  area: (one, other) => other.above_um2 - one.above_um2,
  name: () => 0,
};

class Card {
  constructor(id) {
    this.id = id;
    this.canvas = element("canvas");
    this.scores = element("span", { className: "scores dim", textContent: "…" });
    this.link = element(
      "a",
      { href: `slide.html?id=${encodeURIComponent(id)}`, className: "card" },
      element("span", { className: "picture" }, this.canvas),
      element("span", { className: "title", textContent: id }),
      this.scores,
    );
    this.item = element("li", {}, this.link);
  }

  /** Load scores and picture; a slide that cannot be read says so and stops no other. */
  async load() {
    try {
      const about = await api.describe(this.id);
      const scores = await api.summary(this.id);
      this.#tell(scores);
      const thumbnail = new Thumbnail(this.canvas, about, BOX);
      await thumbnail.load();
      const fill = about.slide ? "above" : "all";
      const paint = paintOf("viridis", middleOf(about, scores.channel), cutOf(scores.threshold), fill);
      thumbnail.draw(await coarseMap(about, scores.channel), paint, 0.75);
    } catch (error) {
      this.scores.textContent = `cannot be shown: ${error.message}`;
    }
  }

  /** Say what the map has; where nothing was looked at there is no score, and that is not a low one. */
  #tell(scores) {
    if (!scores.seen_um2) return (this.scores.textContent = "no tissue was looked at");
    this.found = scores;
    const share = (100 * scores.above_um2) / scores.seen_um2;
    this.scores.replaceChildren(
      element("strong", { textContent: `${scores.channel} ${value(scores.highest)}` }),
      ` highest · ${area(scores.above_um2)} (${share.toFixed(1)} %) ≥ ${value(scores.threshold)}`,
    );
  }
}

async function start() {
  const list = document.querySelector("#cards");
  const order = document.querySelector("#order");
  const filter = document.querySelector("#filter");
  const { slides, left_out: missing } = await api.slides();
  const cards = slides.map((id) => new Card(id));
  const others = missing ? `; ${missing} more of this run without a finished result` : "";
  const arrange = () => {
    const unknown = { highest: -1, above_um2: -1 };
    const sorted = cards.toSorted((one, other) => ORDERS[order.value](one.found ?? unknown, other.found ?? unknown));
    const wanted = filter.value.toLowerCase();
    list.replaceChildren(...sorted.filter((card) => card.id.toLowerCase().includes(wanted)).map((card) => card.item));
    document.querySelector("#count").textContent = `${list.children.length} of ${cards.length} slides${others}`;
  };
  order.addEventListener("change", arrange);
  filter.addEventListener("input", arrange);
  addHelp();
  arrange();
  // Two at a time: the server's machine may be reading slides from a slow disk.
  const waiting = [...cards];
  const work = async () => {
    for (let card = waiting.shift(); card; card = waiting.shift()) await card.load();
  };
  await Promise.all([work(), work()]);
  if (!document.activeElement?.matches(".card")) arrange();
}

start();
