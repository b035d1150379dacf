// The controls of the panel, each bound to one value of the state.

import { NAMES } from "./colormaps.js";
import { element } from "./format.js";

const CHECKS = ["map", "contours", "annotation", "grid", "minimap"];

function radio(group, value, text) {
  const input = element("input", { type: "radio", name: group, value });
  return element("label", {}, input, element("span", { textContent: text ?? value }));
}

function bindRadios(state, name) {
  const inputs = [...document.querySelectorAll(`[name=${name}]`)];
  const show = () => inputs.forEach((input) => (input.checked = input.value === state.get(name)));
  for (const input of inputs) input.addEventListener("change", () => state.set({ [name]: input.value }));
  state.on([name], show);
  show();
}

function bindSlider(id, get, set, state, names) {
  const input = document.querySelector(`#${id}`);
  const output = document.querySelector(`#${id}-value`);
  const show = () => {
    const now = get();
    input.disabled = now === undefined;
    input.value = now ?? 0;
    output.textContent = now === undefined ? "…" : now.toFixed(2);
  };
  input.addEventListener("input", () => set(Number(input.value)));
  state.on(names, show);
  show();
}

export function addControls(about, state) {
  document.querySelector("#channels").replaceChildren(...about.map.channels.map((channel) => radio("channel", channel)));
  document.querySelector("#colormap").replaceChildren(...NAMES.map((name) => element("option", { value: name, textContent: name })));
  for (const name of ["channel", "fill", "list"]) bindRadios(state, name);
  const colormap = document.querySelector("#colormap");
  const showColormap = () => (colormap.value = state.get("colormap"));
  colormap.addEventListener("change", () => state.set({ colormap: colormap.value }));
  state.on(["colormap"], showColormap);
  showColormap();
  for (const name of CHECKS) {
    const input = document.querySelector(`#${name}-shown`);
    const show = () => (input.checked = state.get(name));
    input.addEventListener("change", () => state.set({ [name]: input.checked }));
    state.on([name], show);
    show();
  }
  document.querySelector("#annotation-shown").closest("label").hidden = !about.annotation;
  document.querySelector("#grid-shown").closest("label").hidden = !about.tiles;
  bindSlider("opacity", () => state.get("opacity"), (opacity) => state.set({ opacity }), state, ["opacity"]);
  const watched = ["thresholds", "channel"];
  bindSlider("threshold", () => state.threshold, (value) => state.setThreshold(value), state, watched);
  addReset(about, state, watched);
}

/** The button that takes the model's own threshold again. */
function addReset(about, state, watched) {
  const button = document.querySelector("#threshold-reset");
  const show = () => {
    const own = state.get("channel") === about.map.main ? about.threshold : null;
    button.hidden = own === null || own === undefined;
    button.disabled = state.threshold === own;
    if (!button.hidden) button.textContent = `Model’s: ${own.toFixed(2)}`;
  };
  button.addEventListener("click", () => state.setThreshold(about.threshold));
  state.on(watched, show);
  show();
}
