// Charts as SVG. Colours and widths come from the style sheet; a text beside says what is seen.
import { el } from "./parts.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 380, HEIGHT = 180, LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 26;

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Round steps from 0 to at least `top`: four or five of them. */
export function ticks(top) {
  if (!(top > 0)) return [0, 1];
  const raw = top / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(each => each * power).find(each => each >= raw * 0.999);
  const count = Math.ceil(top / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, place) => place * step);
}

/**
 * A figure with lines over time. `series`: [{ name, points: [[x, y or null], ...] }], x rising; gaps where y is null.
 * `format` writes a value of y, `xFormat` one of x; `range` is what x spans; `rules` are [value, name] of levels.
 */
export function lines({ title, series, format, range, xFormat, rules = [], summary }) {
  const values = series.flatMap(each => each.points.map(point => point[1])).filter(value => value !== null);
  const marks = ticks(Math.max(0, ...values, ...(values.length ? rules.map(rule => rule[0]) : [])));
  const top = marks.at(-1), [first, last] = range;
  const x = value => LEFT + (WIDTH - LEFT - RIGHT) * (last > first ? (value - first) / (last - first) : 1);
  const y = value => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${summary}` });
  for (const mark of marks) {
    drawing.append(svg("path", { class: "grid", d: `M${LEFT} ${y(mark)}H${WIDTH - RIGHT}` }),
      svg("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, format(mark)));
  }
  for (const [value] of rules) if (value <= top) drawing.append(svg("path", { class: "rule", d: `M${LEFT} ${y(value)}H${WIDTH - RIGHT}` }));
  drawing.append(svg("text", { x: LEFT, y: HEIGHT - 6 }, xFormat(first)),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, xFormat(last)));
  series.forEach((each, place) => drawing.append(...pieces(each.points).map(points => points.length === 1
    ? svg("circle", { class: `dot s${place}`, cx: x(points[0][0]), cy: y(points[0][1]), r: 2.5 })
    : svg("path", { class: `line s${place}`, d: "M" + points.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("L") }))));
  const legend = series.length + rules.length > 1 && el("ul", { class: "legend" },
    series.map((each, place) => el("li", {}, key(`line s${place}`), each.name)), rules.map(rule => el("li", {}, key("rule"), rule[1])));
  return el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, title)), drawing, legend || null, el("p", { class: "note" }, summary));
}

function key(kind) {
  return svg("svg", { class: "key", viewBox: "0 0 20 12", "aria-hidden": "true" }, svg("path", { class: kind, d: "M1 6h18" }));
}

function pieces(points) {
  const found = [];
  let open = false;
  for (const point of points) {
    if (point[1] === null) open = false;
    else if (open) found.at(-1).push(point);
    else { found.push([point]); open = true; }
  }
  return found;
}

/** A bar from `low` to `high` on an axis from `from` to `to`; what it says stands beside it as a number. */
export function bar(low, high, from, to, kind) {
  const x = value => 200 * (to > from ? (value - from) / (to - from) : 0);
  return svg("svg", { class: "bar", viewBox: "0 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "track", d: `M${x(Math.max(from, Math.min(0, to)))} 0v10` }),
    svg("rect", { class: kind, x: Math.min(x(low), x(high)), y: 1, width: Math.max(1, Math.abs(x(high) - x(low))), height: 8 }));
}
