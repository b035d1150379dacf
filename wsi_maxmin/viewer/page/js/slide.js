// The page of one slide: what is made once, and what hears of what.

import { addAnnotation } from "./annotation.js";
import * as api from "./api.js";
import { Camera } from "./camera.js";
import { addColorBar } from "./colorbar.js";
import { NAMES } from "./colormaps.js";
import { addControls } from "./controls.js";
import { openViewer } from "./deepzoom.js";
import { element } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { addHelp, bindKeys } from "./keys.js";
import { Minimap } from "./minimap.js";
import { Overlay } from "./overlay.js";
import { savePicture } from "./picture.js";
import { keepPlace } from "./place.js";
import { readOut } from "./readout.js";
import { Regions } from "./regions.js";
import { addScaleBar } from "./scalebar.js";
import { State } from "./state.js";
import { TileGrid } from "./tilegrid.js";

// Of its panel on a common screen, CSS px.
const NEUROGLANCER_WIDTH = 1000;

const $ = (selector) => document.querySelector(selector);

const announce = (text) => ($("#live").textContent = text);

function warn(text) {
  $("#warning").textContent = text;
  $("#warning").hidden = false;
}

function startState(about) {
  const { main } = about.map;
  const known = about.threshold === null ? {} : { [main]: about.threshold };
  return new State({
    channel: main,
    opacity: 0.6,
    colormap: "viridis",
    fill: about.slide ? "above" : "all",
    thresholds: known,
    list: "suspicious",
    map: true,
    contours: true,
    annotation: about.annotation,
    grid: false,
    minimap: true,
  });
}

/** A channel without a threshold yet gets the server's. */
function chooseThresholds(about, state) {
  const choose = async () => {
    const channel = state.get("channel");
    if (state.threshold !== undefined) return;
    const { threshold } = await api.regions(about.id, channel);
    if (state.get("thresholds")[channel] === undefined) state.setThreshold(threshold, channel);
  };
  state.on(["channel"], choose);
  choose();
}

function fillFacts(about) {
  const [width, height] = about.size.map((side) => side.toLocaleString("en"));
  const rows = [["Slide", `${width} × ${height} px`], ["µm a slide pixel", about.mpp.toPrecision(4)], ...about.facts];
  $("#facts").replaceChildren(
    ...rows.flatMap(([name, text]) => [element("dt", { textContent: name }), element("dd", { textContent: text })]),
  );
}

function fillLinks(about) {
  const store = api.storeUrl(about);
  const range = `range=[0, ${about.map.brightest}]`;
  const shader = `#uicontrol invlerp normalized(${range})\nvoid main() { emitGrayscale(normalized()); }`;
  const channel = about.map.channels.indexOf(about.map.main);
  const layer = { type: "image", name: about.id, source: `zarr://${store}`, shader };
  const state = {
    // Slide pixels as its unit; without these it shows another channel, and x and y exchanged.
    dimensions: { x: [about.mpp * 1e-6, "m"], y: [about.mpp * 1e-6, "m"] },
    position: about.size.map((side) => side / 2),
    crossSectionScale: Math.max(...about.size) / NEUROGLANCER_WIDTH,
    layout: "xy",
    layers: [{ ...layer, localDimensions: { "c'": [1, ""] }, localPosition: [channel] }],
  };
  $("#vizarr").href = `https://hms-dbmi.github.io/vizarr/?source=${encodeURIComponent(store)}`;
  $("#neuroglancer").href = `https://neuroglancer-demo.appspot.com/#!${encodeURIComponent(JSON.stringify(state))}`;
}

function showTile(tile) {
  $("#tile").hidden = !tile;
  if (!tile) return;
  const rows = [["tile at x, y", tile.place], ...tile.values.map(([name, number]) => [name, number.toFixed(3)])];
  $("#tile dl").replaceChildren(
    ...rows.flatMap(([name, text]) => [element("dt", { textContent: name }), element("dd", { textContent: text })]),
  );
}

function keysOf({ state, camera, viewer, regions, about, save, help }) {
  const cycle = (name, all) => state.set({ [name]: all[(all.indexOf(state.get(name)) + 1) % all.length] });
  const opacity = (by) => state.set({ opacity: Math.min(Math.max(+(state.get("opacity") + by).toFixed(2), 0), 1) });
  const threshold = (by) => state.threshold !== undefined && state.setThreshold(+(state.threshold + by).toFixed(3));
  return {
    n: () => regions.step(1),
    p: () => regions.step(-1),
    u: () => cycle("list", ["suspicious", "uncertain"]),
    " ": () => state.toggle("map"),
    c: () => cycle("channel", about.map.channels),
    v: () => cycle("colormap", NAMES),
    b: () => cycle("fill", ["above", "all"]),
    "]": () => threshold(0.01),
    "[": () => threshold(-0.01),
    ".": () => opacity(0.05),
    ",": () => opacity(-0.05),
    o: () => state.toggle("contours"),
    a: () => about.annotation && state.toggle("annotation"),
    g: () => about.tiles && state.toggle("grid"),
    m: () => state.toggle("minimap"),
    0: () => camera.home(),
    1: () => camera.setResolution(10 / 5),
    2: () => camera.setResolution(10 / 10),
    3: () => camera.setResolution(10 / 20),
    4: () => camera.setResolution(10 / 40),
    s: save,
    "?": help,
    Home: () => camera.home(),
    Escape: () => viewer.canvas.focus(),
  };
}

/** Say why there is nothing to see, and show the way back. */
function refuse(id, error) {
  $("#gallery").hidden = false;
  warn(error.status === 404 ? `There is no slide “${id}” in this result.` : `${id} cannot be shown: ${error.message}`);
}

async function start() {
  const id = new URLSearchParams(location.search).get("id") ?? "";
  document.title = `${id} – wsi-maxmin`;
  $("#name").textContent = id;
  let about;
  try {
    about = await api.describe(id);
  } catch (error) {
    return refuse(id, error);
  }
  $("aside").hidden = false;
  const state = startState(about);
  const viewer = openViewer($("#slide"), about);
  const camera = new Camera(viewer, about.size, about.mpp);
  const overlay = new Overlay(viewer, camera);
  const heatmap = new Heatmap(about, state, () => overlay.invalidate(), warn);
  overlay.add((...drawing) => state.get("map") && heatmap.draw(...drawing));
  const grid = new TileGrid(about, state, overlay, showTile);
  overlay.add((...drawing) => {
    const shown = state.get("map") && state.get("contours");
    overlay.canvas.dataset.contours = shown ? heatmap.drawContours(...drawing) : 0;
  });
  state.on(null, () => overlay.invalidate());
  addControls(about, state);
  addColorBar(about, state);
  addScaleBar(camera, viewer);
  fillFacts(about);
  fillLinks(about);
  viewer.addOnceHandler("open", () => {
    viewer.canvas.setAttribute("aria-label", `Slide ${id}: arrow keys move, plus and minus zoom, question mark lists all keys`);
    keepPlace(camera, viewer);
  });
  viewer.addHandler("tile-load-failed", () => warn("Parts of the slide cannot be read."));
  const regions = new Regions(about, state, camera, overlay, announce);
  readOut(about, state, viewer, camera, heatmap, grid);
  if (!about.slide) warn("The slide itself is not here, so the map is shown alone. Start with --slide FILE to see both.");
  const save = () => savePicture(viewer, overlay, camera, about, state);
  const help = addHelp();
  $("#save").addEventListener("click", save);
  for (const button of document.querySelectorAll("[data-times]")) {
    button.addEventListener("click", () => camera.setResolution(10 / Number(button.dataset.times)));
  }
  $("#fit").addEventListener("click", () => camera.home());
  bindKeys(keysOf({ state, camera, viewer, regions, about, save, help }));
  // What the console, and the tests, look at.
  window.wsiMaxmin = { about, state, viewer, camera, overlay, heatmap, regions, busy: api.busy, started: false };
  // The rest waits for the first picture, and does not slow it.
  await firstPicture(viewer);
  chooseThresholds(about, state);
  addAnnotation(about, state, overlay);
  new Minimap(about, state, camera, viewer);
  regions.load();
  $("#gallery").hidden = (await api.slides()).slides.length < 2;
  window.wsiMaxmin.started = true;
}

/** Wait until slide and map are on the screen, or would be if they could be read. */
function firstPicture(viewer) {
  return new Promise((done) => {
    const look = () => {
      const item = viewer.world.getItemAt(0);
      if (item?.getFullyLoaded() && !api.busy()) done();
      else setTimeout(look, 10);
    };
    look();
  }).then(() => performance.mark("first picture"));
}

addEventListener("unhandledrejection", (event) => warn(`Something cannot be shown: ${event.reason?.message}`));
start();
