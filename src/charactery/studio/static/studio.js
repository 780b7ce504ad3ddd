// Two steps back in quick succession ask for two pages: only the last one asked for may be shown.
"use strict";
let restoring = null;
document.addEventListener("htmx:historyCacheMiss", (event) => {
  restoring?.abort();
  restoring = event.detail.xhr;
});

// Copy what stands in a text field; where the browser does not allow it, it is selected for a person to copy.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Selected: copy it";
  }
});

// A line that a finding names is selected in the text beside it; focus anew scrolls it into view.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-line]");
  if (!button) return;
  const field = document.getElementById("text");
  const lines = field.value.split("\n");
  const before = lines.slice(0, button.dataset.line - 1).join("\n");
  const start = before.length + (before ? 1 : 0);
  field.setSelectionRange(start, start);
  field.blur();
  field.focus();
  field.setSelectionRange(start, start + (lines[button.dataset.line - 1] ?? "").length);
});

// A page whose text is not saved asks before it is left. What is saved is what was sent, not what was typed since.
let sent = "";
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.path === "/write/save") sent = document.getElementById("text").value;
});
document.addEventListener("saved", () => {
  document.getElementById("text").defaultValue = sent;
});
window.addEventListener("beforeunload", (event) => {
  const field = document.querySelector("[data-kept]");
  if (field && field.value !== field.defaultValue) event.preventDefault();
});

// A page that is named with a part of it shows that part, unfolded.
const named = document.getElementById(location.hash.slice(1));
if (named?.tagName === "DETAILS") named.open = true;
