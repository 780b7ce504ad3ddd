// Two steps back in quick succession ask for two pages: only the last one asked for may be shown.
"use strict";
let restoring = null;
document.addEventListener("htmx:historyCacheMiss", (event) => {
  restoring?.abort();
  restoring = event.detail.xhr;
});
