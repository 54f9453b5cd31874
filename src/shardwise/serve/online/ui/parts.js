// Small things of the page. Texts of users go into text nodes alone: nothing here parses HTML.

/** An element; attributes that are null or false are left out, functions become listeners, strings text nodes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined).map(child => child instanceof Node ? child : String(child)));
  return node;
}

const shown = new WeakMap();

/** Show nodes in a place, made anew only where `of` has changed; who has the focus keeps it, what is open stays open. */
export function swap(place, of, make) {
  const key = JSON.stringify(of);
  if (shown.get(place) === key) return;
  shown.set(place, key);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...place.querySelectorAll("details[open]")].map(each => each.dataset.key));
  const scrolled = new Map([...place.querySelectorAll(".scroll")].map(each => [each.dataset.key, each.scrollLeft]));
  place.replaceChildren(...[make()].flat().filter(Boolean));
  for (const each of place.querySelectorAll("details")) each.open = open.has(each.dataset.key);
  for (const each of place.querySelectorAll(".scroll")) each.scrollLeft = scrolled.get(each.dataset.key) ?? 0;
  if (focused !== undefined) [...place.querySelectorAll("[data-key]")].find(each => each.dataset.key === focused)?.focus();
}

/** A table that scrolls by itself; `rows` hold nodes or texts, the first of each is its head. */
export function sheet(key, caption, heads, rows) {
  const head = heads.map(([text, isNumber]) => el("th", { scope: "col", class: isNumber ? "n" : null }, text));
  const body = rows.map(cells => el("tr", {}, cells.map((cell, place) => place === 0
    ? el("th", { scope: "row" }, cell)
    : el("td", { class: heads[place][1] ? "n" : null }, cell))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, data: { key } },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

const minus = text => text.replace("-", "−");
export const number = (value, digits = 3) => value === null || value === undefined ? "–"
  : minus(Number(value).toLocaleString("en", Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits }));
export const signed = value => (value > 0 ? "+" : "") + number(value);
export const percent = value => `${number(100 * value)} %`;
export const seconds = value => value === null || value === undefined ? "–"
  : value < 0.001 ? `${number(value * 1e6, 2)} µs` : value < 1 ? `${number(value * 1e3, 2)} ms` : `${number(value, 2)} s`;
export const bytes = value => value < 1e6 ? `${number(value / 1e3, 2)} kB` : `${number(value / 1e6, 2)} MB`;
export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
