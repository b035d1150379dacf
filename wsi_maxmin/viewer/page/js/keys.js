// One key a thing; they are listed in the page's own help.

const SLIDER_KEYS = ["Home", "End", "PageUp", "PageDown", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

/** Bind keys to actions; typing into a control, and combinations with Ctrl and the like, stay the browser's. */
export function bindKeys(actions) {
  addEventListener("keydown", (event) => {
    const busy = event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]");
    const typing = event.target.matches("select, textarea, input:not([type=range], [type=checkbox], [type=radio])");
    const action = actions[event.key];
    if (!action || busy || typing) return;
    if (SLIDER_KEYS.includes(event.key) && event.target.matches("input[type=range]")) return;
    // Space on a button or a box presses it.
    if (event.key === " " && event.target.matches("button, input, a, summary")) return;
    event.preventDefault();
    action();
  });
}

export function addHelp() {
  const dialog = document.querySelector("#help");
  for (const button of document.querySelectorAll("[data-help]")) button.addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return () => dialog.showModal();
}
