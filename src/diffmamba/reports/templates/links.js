// A page that lies in its site leads to the others; one that was taken out of it does not have this script.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const link of document.querySelectorAll("a[data-href]")) link.href = link.dataset.href;
  for (const place of document.querySelectorAll("nav[hidden]")) place.hidden = false;
});
