"use strict";

// Shows the tracks with igv.js; a click on a call moves there, a click on a column header sorts. The search takes
// a gene or a position.

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

// ---- bars --------------------------------------------------------------------------------------------------

// igv.js draws neighbouring bars with fractional edges, through whose seams the background shines
const fillRect = CanvasRenderingContext2D.prototype.fillRect;
CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
  const left = Math.round(x);
  fillRect.call(this, left, y, Math.max(1, Math.round(x + width) - left), height);
};

// ---- search ------------------------------------------------------------------------------------------------

const SUGGESTIONS = 20;
const search = document.getElementById("search");
let genes = {};

function suggest() {
  const typed = search.value.trim().toLowerCase();
  const names = [];
  for (const key in genes) {
    if (typed && key.startsWith(typed)) names.push(genes[key][0]);
    if (names.length === SUGGESTIONS) break;
  }
  document.getElementById("genes").replaceChildren(...names.map(name => new Option(name, name)));
}

async function goTo(browser, text) {
  const gene = Object.hasOwn(genes, text.toLowerCase()) ? genes[text.toLowerCase()][1] : text;
  document.getElementById("error").textContent = "";
  const found = await browser.search(gene);
  if (found === false) throw new Error(`${text}: neither a gene nor a position of this genome`);
}

function enableSearch(browser) {
  search.addEventListener("input", suggest);
  search.addEventListener("change", () => {
    if (search.value.trim()) goTo(browser, search.value.trim()).catch(showError);
  });
}

function followAtUcsc(browser) {
  const link = document.getElementById("ucsc");
  if (!link) return;
  const update = () => {
    const position = [].concat(browser.currentLoci())[0].replaceAll(",", "");
    link.href = `${link.dataset.address}&position=${encodeURIComponent(position)}`;
  };
  browser.on("locuschange", update);
  update();
}

async function readGenes() {
  if (search.dataset.genes) genes = await (await fetch(search.dataset.genes)).json();
}

igv.createBrowser(document.getElementById("igv"), settings).then(browser => {
  window.browser = browser;
  rows.forEach(row => row.addEventListener("click", () => {
    rows.forEach(other => other.removeAttribute("aria-current"));
    row.setAttribute("aria-current", "true");
    browser.search(row.dataset.locus).catch(showError);
  }));
  enableSearch(browser);
  followAtUcsc(browser);
  return readGenes();
}).then(() => {
  document.body.dataset.ready = "true";
}).catch(showError);
