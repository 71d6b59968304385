"use strict";

// Shows the tracks with igv.js; a click on a call moves there, a click on a column header sorts.

const settings = JSON.parse(document.getElementById("settings").textContent);
const rows = [...document.querySelectorAll("#calls tbody tr")];
const headers = [...document.querySelectorAll("#calls th")];

function showError(error) {
  document.getElementById("error").textContent = String((error && error.message) || error);
}

function compare(column, first, second) {
  if (column === "position") {
    const contigs = first.dataset.contig.localeCompare(second.dataset.contig, undefined, { numeric: true });
    return contigs || Number(first.dataset.position) - Number(second.dataset.position);
  }
  return Number(first.dataset[column]) - Number(second.dataset[column]);
}

function sortBy(header) {
  const column = header.querySelector("button").dataset.column;
  const usual = column === "position" ? "ascending" : "descending";
  const other = usual === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === usual ? other : usual;
  headers.forEach(each => each.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((first, second) => sign * compare(column, first, second));
  rows.forEach(row => row.parentNode.appendChild(row));
}

function filterRows(text) {
  const wanted = text.trim().toLowerCase().replaceAll(",", "");
  rows.forEach(row => {
    const name = row.querySelector("button").textContent.toLowerCase().replaceAll(",", "");
    row.hidden = !name.includes(wanted);
  });
}

headers.forEach(header => header.querySelector("button").addEventListener("click", () => sortBy(header)));
const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => filterRows(filter.value));

igv.createBrowser(document.getElementById("igv"), settings).then(browser => {
  window.browser = browser;
  rows.forEach(row => row.addEventListener("click", () => {
    rows.forEach(other => other.removeAttribute("aria-current"));
    row.setAttribute("aria-current", "true");
    browser.search(row.dataset.locus).catch(showError);
  }));
  document.body.dataset.ready = "true";
}).catch(showError);
