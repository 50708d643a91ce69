"use strict";

const every = (selector, root = document) => [...root.querySelectorAll(selector)];
const detailsOf = (row) =>
  row.nextElementSibling?.classList.contains("opened") ? row.nextElementSibling : null;

/* Sorting: up, down, and back to the order of the table. What has no value stays at the end. */

const valueOf = (row, column) => {
  const cell = row.children[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  const number = Number.parseFloat(text);
  return text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
};

const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));

function sort(button) {
  const heading = button.closest("th");
  const body = button.closest("table").tBodies[0];
  const before = heading.getAttribute("aria-sort");
  const isNumber = heading.classList.contains("number");
  const [first, second] = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
  const after = before === first ? second : before === second ? null : first;
  every("th[aria-sort]", heading.parentElement).forEach((x) => x.removeAttribute("aria-sort"));
  if (after) heading.setAttribute("aria-sort", after);
  const sign = after === "descending" ? -1 : 1;
  const rows = every(":scope > tr:not(.opened)", body);
  rows.forEach((row, index) => (row.dataset.place ??= index));
  const keyed = rows.map((row) => ({
    row,
    below: detailsOf(row),
    place: Number(row.dataset.place),
    value: after ? valueOf(row, heading.cellIndex) : null,
  }));
  keyed.sort((a, b) => {
    if ((a.value === null) !== (b.value === null)) return a.value === null ? 1 : -1;
    return (a.value === null ? 0 : sign * compare(a.value, b.value)) || a.place - b.place;
  });
  body.append(...keyed.flatMap(({ row, below }) => (below ? [row, below] : [row])));
}

/* A row opens into what is known of its cell; cells share the pictures of a set. */

const copyOf = (id) => document.getElementById(id).content.cloneNode(true);

function open(row, isOpen) {
  const below = detailsOf(row);
  row.querySelector(".opener").setAttribute("aria-expanded", isOpen);
  if (below) below.remove();
  if (!isOpen) return;
  const opened = document.createElement("tr");
  const cell = opened.insertCell();
  opened.className = "opened";
  cell.colSpan = row.children.length;
  cell.append(copyOf(row.dataset.details));
  every("[data-picture]", cell).forEach((place) => place.replaceWith(copyOf(place.dataset.picture)));
  row.after(opened);
}

function follow() {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!row?.classList.contains("cell")) return;
  if (row.hidden) {
    filters.reset();
    filter();
  }
  open(row, true);
  row.scrollIntoView({ block: "start" });
}

/* Filters hide every part of the page that says of itself that it is of something else. */

const filters = document.getElementById("filters");

function filter() {
  const wanted = Object.fromEntries(new FormData(filters));
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  const isWanted = ({ text, dataset, ipc, status }) =>
    (text === undefined || words.every((word) => text.includes(word))) &&
    (!wanted.dataset || dataset === undefined || dataset === wanted.dataset) &&
    (!wanted.ipc || ipc === undefined || ipc === wanted.ipc) &&
    (!wanted.status || status === undefined || status === wanted.status);
  for (const part of every("[data-text], [data-dataset]")) {
    part.hidden = !isWanted(part.dataset);
    if (part.hidden && part.classList.contains("cell")) open(part, false);
  }
  const rows = every("tr.cell");
  const shown = rows.filter((row) => !row.hidden).length;
  const isAll = shown === rows.length;
  filters.querySelector("output").textContent = `${isAll ? "" : `${shown} of `}${rows.length} cells`;
  for (const table of every("table.cells")) {
    table.nextElementSibling.hidden = table.querySelector("tr.cell:not([hidden])") !== null;
  }
}

document.addEventListener("click", ({ target }) => {
  const sorter = target.closest(".sorter");
  if (sorter) return sort(sorter);
  const row = target.closest("tr.cell");
  if (row && getSelection().isCollapsed) open(row, !detailsOf(row));
});
filters.addEventListener("input", filter);
filters.addEventListener("change", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", follow);
filter();
follow();
