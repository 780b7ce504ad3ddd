// Two steps back in quick succession ask for two pages: only the last one asked for may be shown.
"use strict";
let restoring = null;
document.addEventListener("htmx:historyCacheMiss", (event) => {
  restoring?.abort();
  restoring = event.detail.xhr;
});

// A browser opens six connections to a host, for all its tabs together: a tab that nobody looks at gives up its stream
// of events, and goes on where it was when it is looked at again.
const last = new Map(); // the last event heard, by address: a stream that is made in another's place goes on there
class Stream {
  constructor(where) {
    this.where = where;
    this.heard = [];
    this.source = null;
    this.turned = () => (document.visibilityState === "hidden" ? this.let() : this.open());
    document.addEventListener("visibilitychange", this.turned);
    this.turned();
  }
  get readyState() {
    return this.source ? this.source.readyState : EventSource.CONNECTING;
  }
  open() {
    if (this.source) return;
    this.source = new EventSource(`${this.where}?after=${last.get(this.where) ?? 0}`);
    this.source.onopen = (event) => this.onopen?.(event);
    this.source.onerror = (event) => {
      this.onerror?.(event);
      if (this.readyState === EventSource.CLOSED) this.close(); // another is made in its place
    };
    for (const [name, , told] of this.heard) this.source.addEventListener(name, told);
  }
  let() {
    this.source?.close();
    this.source = null;
  }
  close() {
    document.removeEventListener("visibilitychange", this.turned);
    this.let();
  }
  addEventListener(name, wanted) {
    const told = (event) => {
      last.set(this.where, Number(event.lastEventId));
      wanted(event);
    };
    this.heard.push([name, wanted, told]);
    this.source?.addEventListener(name, told);
  }
  removeEventListener(name, unwanted) {
    for (const [one, wanted, told] of this.heard) if (one === name && wanted === unwanted) this.source?.removeEventListener(name, told);
    this.heard = this.heard.filter(([one, wanted]) => one !== name || wanted !== unwanted);
  }
}
htmx.createEventSource = (where) => new Stream(where);

// What a process last said is put there anew only where it has said more, so that one can read, select and scroll it.
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  if (target.id === "log" && target.textContent === fragment.textContent) event.detail.shouldSwap = false;
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

// What a slider stands at.
document.addEventListener("input", ({ target }) => {
  if (target.dataset?.shows) document.getElementById(target.dataset.shows).textContent = target.value;
});

// What is picked goes into the field beside it; a list under a field would show only what its text begins like.
document.addEventListener("change", ({ target }) => {
  if (!target.dataset?.fills) return;
  const field = target.form.elements[target.dataset.fills];
  field.value = target.value || field.value;
});
document.addEventListener("focusout", ({ target }) => { if (target.dataset?.fills) target.value = ""; }); // to be picked again

// A studio that was closed answers nothing, and neither does one to a file that is too large.
document.addEventListener("htmx:sendError", () => {
  const said = document.createElement("p");
  said.className = "fault";
  said.textContent = "The studio does not answer. Is it still running? A file may be too large, too.";
  document.getElementById("fault")?.replaceChildren(said);
});

// What no answer says of how it was drawn is remembered by the tab.
for (const field of document.querySelectorAll("[data-remembered]")) {
  field.value = sessionStorage.getItem(field.name) ?? field.value;
  field.addEventListener("input", () => sessionStorage.setItem(field.name, field.value));
}

// A swap takes away what had the focus: it goes on to where one goes on.
let inside = false;
let keyed = false; // by a key, with the focus nowhere
document.addEventListener("pointerdown", () => { keyed = false; });
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "main") inside = keyed || event.detail.target.contains(document.activeElement);
});
document.addEventListener("htmx:afterSettle", () => {
  if (!inside || document.activeElement !== document.body) return;
  inside = false;
  const types = matchMedia("(pointer: fine)").matches && "#text"; // on a phone it would bring up the keyboard
  for (const where of ["#stop", ".answers", types, "main .turn[tabindex]"]) {
    const next = where && document.querySelector(where);
    if (next) return next.focus({ preventScroll: where !== "#stop" && where !== "#text" });
  }
});

// Where one stands is in view: in the tree, which is long, and in the talk, where nothing else has the focus.
const stand = () => {
  const [tree, here] = [".tree", ".tree .here"].map((where) => document.querySelector(where));
  if (here) tree.scrollTop = here.offsetTop - tree.clientHeight / 2;
};
document.addEventListener("htmx:afterSettle", ({ detail }) => { if (detail.elt.id === "main" || detail.target?.id === "main") stand(); });
stand();
if (location.search.includes("at=")) [...document.querySelectorAll("main > .turn")].at(-1)?.scrollIntoView({ block: "nearest" });

// Read aloud what streams in, sentence by sentence; of answers side by side, that each is there.
let unread = "";
const tell = (text) => {
  const heard = document.getElementById("heard");
  if (!heard) return;
  const line = document.createElement("p");
  line.textContent = text;
  heard.append(line);
  while (heard.childElementCount > 20) heard.firstElementChild.remove(); // what was heard is heard
};
document.addEventListener("htmx:sseMessage", ({ detail: { type, data } }) => {
  if (type.startsWith("done-") || type.startsWith("failed-")) {
    if (unread.trim()) tell(unread);
    unread = "";
    if (type.startsWith("done-")) tell("The answer is complete.");
  }
  if (!/^piece-.{36}$/.test(type)) return;
  unread += new DOMParser().parseFromString(data, "text/html").body.textContent;
  const end = unread.search(/[.!?。！？\n](?=\s|$)(?!.*[.!?。！？\n](?=\s|$))/su);
  if (end < 0) return;
  tell(unread.slice(0, end + 1));
  unread = unread.slice(end + 1);
});

// Keys. Those of a single letter can be switched off, for who speaks to the machine.
const single = () => localStorage.getItem("letters") !== "off";
const press = (where) => document.querySelector(where)?.click();
const onward = {
  "?": () => open("keys"),
  "/": () => document.getElementById("text")?.focus(),
  s: () => document.getElementById("q")?.focus(),
  n: () => press("header nav a"),
  u: () => press("#undo"),
  a: () => [...document.querySelectorAll("form[hx-post$='/again']:not(.on) > button")].filter((one) => !one.closest("details")).at(-1)?.click(),
  ArrowLeft: () => press("#before"),
  ArrowRight: () => press("#after"),
};
function open(id) {
  document.getElementById("letters").checked = single();
  document.getElementById(id).showModal();
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-opens]");
  if (button) open(button.dataset.opens);
});
document.addEventListener("change", ({ target }) => {
  if (target.id === "letters") localStorage.setItem("letters", target.checked ? "on" : "off");
});
document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (key === "Enter" && (event.ctrlKey || event.metaKey) && target.form?.hasAttribute("hx-post")) {
    event.preventDefault();
    target.form.requestSubmit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (key === "Escape") return press("#stop");
  if (!single() || !Object.hasOwn(onward, key) || target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  keyed = true;
  onward[key]();
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
