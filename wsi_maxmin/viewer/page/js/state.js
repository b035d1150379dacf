// What the user has chosen, and who wants to know when it changes.

export class State {
  #values;
  #listeners = [];

  constructor(values) {
    this.#values = values;
  }

  get(name) {
    return this.#values[name];
  }

  /** Change some values; listeners hear the names of those that really changed. */
  set(changes) {
    const names = Object.keys(changes).filter((name) => changes[name] !== this.#values[name]);
    if (!names.length) return;
    Object.assign(this.#values, changes);
    for (const [wanted, listener] of this.#listeners) {
      if (!wanted || wanted.some((name) => names.includes(name))) listener(this);
    }
  }

  toggle(name) {
    this.set({ [name]: !this.get(name) });
  }

  /** Call `listener` when one of the names changes; without names, whenever anything does. */
  on(names, listener) {
    this.#listeners.push([names, listener]);
  }

  /** Threshold of the channel that is shown; undefined until the server has chosen one. */
  get threshold() {
    return this.get("thresholds")[this.get("channel")];
  }

  setThreshold(value, channel = this.get("channel")) {
    const kept = Math.min(Math.max(value, 0), 1);
    if (this.get("thresholds")[channel] !== kept) this.set({ thresholds: { ...this.get("thresholds"), [channel]: kept } });
  }
}

/** Lowest byte that a threshold keeps; 0 never counts. The same as in Python, so that labels and contours agree. */
export const cutOf = (threshold) => Math.max(Math.ceil(255 * threshold), 1);
