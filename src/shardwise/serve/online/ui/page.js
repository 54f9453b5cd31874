// The page: asks the server every two seconds, and shows what it says.
import { bar, lines } from "./charts.js";
import { bytes, el, number, percent, plural, seconds, sheet, signed, swap } from "./parts.js";

const EVERY_MS = 2000, SPAN_S = 900, MOST_FIELDS = 60;
const at = id => document.getElementById(id);
let key = "", keyWanted = false, paused = false, state = null, form = null;

// -- asking the server --------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, told) {
    super([told.message, told.hint].filter(Boolean).join(". ").replace("..", "."));
    this.status = status; this.code = told.code; this.column = told.column;
  }
}

async function ask(path, body, otherKey) {
  const headers = {};
  if (otherKey || key) headers.authorization = `Bearer ${otherKey || key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = { headers, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(15000) };
  const answer = await fetch(path, body === undefined ? options : { ...options, method: "POST", body: JSON.stringify(body) });
  const told = await answer.json().catch(() => ({ message: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

function say(text, isProblem = false) {
  at("status").className = isProblem ? "problem" : "note";
  if (at("status").textContent !== text) at("status").textContent = text;
}

async function look() {
  try {
    state = await ask("ui/state");
    at("key").hidden = !keyWanted;
    at("main").hidden = false;
    at("give-key").hidden = state.decisions !== "key";
    show();
    say(headline());
    await fillModels();
  } catch (error) {
    if (error.status === 401) askForKey(error);
    else say(error instanceof Refused ? error.message : "The server does not answer. Trying again.", true);
  }
}

function headline() {
  const points = state.traffic, rate = points.length ? points.at(-1).requests_per_s : null;
  const parts = [state.server.ready ? "Ready" : "Ending: no new requests are wanted", plural(state.models.length, "model")];
  if (state.rollouts.length) parts.push(`${plural(state.rollouts.length, "rollout")} under way`);
  if (paused) parts.push("updates are paused");
  else if (rate !== null) parts.push(rate > 0 ? "answering requests" : "no requests at the moment");
  return `${parts.join(" · ")}.`;
}

function askForKey(error) {
  const first = at("key").hidden;
  at("key").hidden = false;
  at("main").hidden = state === null;
  at("key-problem").textContent = error && key ? error.message : "";
  say("This server asks for a key.");
  if (first) at("key-text").focus();
}

at("key").addEventListener("submit", event => {
  event.preventDefault();
  key = at("key-text").value.trim();
  at("key-text").value = "";
  keyWanted = false;
  look().then(() => { if (state?.decisions === "key" && at("key").hidden) say("That key may look, and not decide."); });
});
at("give-key").addEventListener("click", () => { keyWanted = true; at("key").hidden = false; at("key-text").focus(); });
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on with updates" : "Pause updates";
  if (state) say(headline());
});

// -- sections -----------------------------------------------------------------------------------------------------------

function show() {
  const { models, registry, rollouts, traffic, drift, server, decisions } = state;
  swap(at("models-body"), [models, registry, decisions], () => [modelTable(models), ...registry.flatMap(nameTable)]);
  swap(at("rollouts-body"), [rollouts.map(steady), registry, decisions], () => rolloutCards());
  for (const each of rollouts) fillRollout(each);
  swap(at("traffic-body"), [traffic.map(point => point.requests_per_s), traffic.at(-1)], () => trafficCharts(traffic, server));
  swap(at("drift-body"), [drift, server.monitor], () => drift.length ? drift.flatMap(driftOf)
    : [el("p", {}, "Rows and answers are not watched. Start the server with ", el("code", {}, "--monitor"), ".")]);
}

function modelTable(models) {
  const heads = [["Model"], ["Version that answers"], ["Predicts"], ["Made of"], ["Columns", true], ["Package"]];
  return sheet("served", "What answers now", heads, models.map(each => [each.name, each.version, `${each.target} (${each.task})`,
    each.families.join(", "), number(each.columns), el("code", {}, each.package)]));
}

function nameTable(each) {
  if (each.error) return [el("h3", {}, each.name), el("p", { class: "problem" }, `The registry cannot be read: ${each.error}`)];
  const champion = each.aliases.champion ?? 0, metrics = [...new Set(each.versions.flatMap(version => Object.keys(version.metrics)))].slice(0, 2);
  const heads = [["Version"], ["Aliases"], ["Made of"], ...metrics.map(name => [name, true]), ["Size", true], ["Registered"], ["Note"], ["Decide"]];
  const rows = each.versions.map(version => [String(version.number), version.aliases.join(", ") || "–", version.families.join(", "),
    ...metrics.map(name => number(version.metrics[name] ?? null, 4)), bytes(version.size_bytes), when(version.created), version.note || "–",
    version.number === champion ? "is champion" : promoteButton(each, version.number, champion)]);
  const back = each.before !== null && each.rollout === null && state.decisions !== "off" && el("p", {}, el("button", {
    type: "button", data: { key: `back-${each.name}` }, click: () => decide({
      title: `Roll ${each.name} back`, yes: "Roll back", body: { name: each.name, action: "rollback", expect: champion },
      text: `Version ${each.before} is champion again, in the place of version ${champion}.` }),
  }, `Roll back to version ${each.before}`));
  return [el("h3", {}, `Versions of ${each.name}`), sheet(`versions-${each.name}`, `Versions of ${each.name}, the newest first`, heads, rows),
    each.left_out ? el("p", { class: "note" }, `${plural(each.left_out, "older version")} not shown.`) : null, back || null,
    decisionsNote(each.name), el("details", { data: { key: `events-${each.name}` } }, el("summary", {}, "What happened last"),
      el("ol", { class: "events" }, each.events.map(event => el("li", {}, `${when(event.time)}: ${eventText(event)}`))))];
}

const when = text => text.replace("T", " ").slice(0, 16);
const eventText = event => [event.kind.replaceAll("_", " "), event.alias, event.number && `version ${event.number}`,
  event.step !== undefined && `step ${event.step + 1}`, event.outcome?.replace("_", " "), event.reason].filter(Boolean).join(", ");

function promoteButton(each, version, champion) {
  if (state.decisions === "off") return "–";
  return el("button", { type: "button", data: { key: `promote-${each.name}-${version}` }, "aria-label": `Make version ${version} of ${each.name} champion`,
    click: () => decide({ title: `Promote version ${version} of ${each.name}`, yes: "Promote",
      body: { name: each.name, action: "promote", version, expect: champion },
      text: `It answers all requests from then on${champion ? `, in the place of version ${champion}` : ""}. A rollout that goes on ends.` }) }, "Promote");
}

function decisionsNote(name) {
  if (state.decisions !== "off") return null;
  return el("p", { class: "note" }, "Decisions are off here: start the server with ", el("code", {}, "--admin-key-file"), ", or decide by ",
    el("code", {}, `shardwise models promote ${name}@N`), " and ", el("code", {}, `shardwise rollout rollback ${name}`), ".");
}

// -- rollouts -----------------------------------------------------------------------------------------------------------

const steady = each => [each.name, each.id, each.step, each.share, each.champion, each.candidate];
const slug = each => `rollout-${each.id}-${each.step}`;

function rolloutCards() {
  const followed = state.rollouts.map(each => each.name);
  const others = state.registry.filter(each => each.rollout && !followed.includes(each.name));
  const cards = [...state.rollouts.map(rolloutCard), ...others.map(each =>
    el("p", {}, `A rollout of ${each.name} has begun: version ${each.rollout.candidate} is being loaded.`))];
  return cards.length ? cards : [el("p", {}, "No version is being rolled out. Begin with ", el("code", {}, "shardwise rollout start NAME@VERSION"), ".")];
}

function rolloutCard(each) {
  const steps = el("ol", { class: "steps", "aria-label": "Steps" }, each.rules.steps.map((share, place) => el("li", {
    class: place < each.step ? "done" : place === each.step ? "now" : "", "aria-current": place === each.step ? "step" : null,
  }, share === 0 ? "shadow" : percent(share))), el("li", {}, each.rules.promote ? "champion" : "passed"));
  const text = each.share === 0 ? "is asked the same rows, and answers nobody" : `answers ${percent(each.share)} of the callers`;
  const expect = Number(each.champion), version = Number(each.candidate);
  const buttons = state.decisions === "off" ? decisionsNote(each.name) : el("p", { class: "row" },
    el("button", { type: "button", class: "main", data: { key: `${slug(each)}-yes` }, click: () => decide({
      title: `Promote version ${version} of ${each.name}`, yes: "Promote", body: { name: each.name, action: "promote", version, expect },
      text: `The rollout ends, and version ${version} answers all requests in the place of version ${expect}.` }) }, `Promote version ${version}`),
    el("button", { type: "button", data: { key: `${slug(each)}-no` }, click: () => decide({
      title: `Roll version ${version} of ${each.name} back`, yes: "Roll back",
      body: { name: each.name, action: "rollback", rollout: each.id, expect },
      text: `The rollout ends, and version ${expect} answers all requests again.` }) }, `Roll back to version ${expect}`));
  return el("article", { class: "panel", "aria-label": `Rollout of ${each.name}` },
    el("h3", {}, `${each.name}: version ${version} against version ${expect}`),
    el("p", {}, `Version ${version} ${text}.`), steps, el("div", { id: slug(each) }), buttons);
}

function fillRollout(each) {
  const { champion, candidate } = each.seen, heads = [["Seen here in this step"], ["Requests", true], ["Failed", true], ["Labels", true], ["Mean loss", true]];
  const row = (name, arm) => [name, number(arm.requests[0]), number(arm.requests[1]), number(arm.loss[0]), arm.loss[0] ? number(arm.loss[1]) : "–"];
  const waits = each.decision && each.decision.action === "wait" ? `Waits: ${each.decision.reason}.` : each.decision?.reason ?? "Not judged yet.";
  swap(at(slug(each)), [each.seen.champion, each.seen.candidate, waits], () => [el("p", {}, waits),
    sheet(slug(each), "Requests of both versions, as this process has seen them", heads,
      [row(`version ${each.champion} (champion)`, champion), row(`version ${each.candidate} (candidate)`, candidate)])]);
}

// -- decisions ----------------------------------------------------------------------------------------------------------

let pending = null;

function decide(asked) {
  pending = asked;
  at("decision-head").textContent = asked.title;
  at("decision-text").textContent = asked.text;
  at("decision-yes").textContent = asked.yes;
  at("decision-problem").textContent = "";
  at("decision-reason").value = "";
  at("decision-key").hidden = state.decisions === "on";
  at("decision-key-text").required = state.decisions !== "on";
  at("decision").showModal();
}

at("decision-no").addEventListener("click", () => at("decision").close());
at("decision").addEventListener("close", () => {
  if (at("decision").open) return;  // the event comes late: the next decision may be asked for already
  at("decision-key-text").value = "";
  pending = null;
});
at("decision-form").addEventListener("submit", async event => {
  event.preventDefault();
  if (pending === null || at("decision-yes").disabled) return;
  at("decision-yes").disabled = true;
  let done;
  try {
    const own = at("decision-key").hidden ? "" : at("decision-key-text").value.trim();
    done = await ask("rollout", { ...pending.body, reason: at("decision-reason").value }, own);
    if (own) key = own;
  } catch (error) {
    at("decision-problem").textContent = error.message;
    return;
  } finally {
    at("decision-yes").disabled = false;  // before the page is drawn anew: the next decision may be asked for then
  }
  at("decision").close();
  await look();
  say(`Done: version ${done.champion} is champion of ${done.name}.`);
});

// -- charts -------------------------------------------------------------------------------------------------------------

function trafficCharts(points, server) {
  if (!points.length) return [el("p", {}, "No figures yet: the first point comes after some seconds.")];
  const now = points.at(-1), of = name => points.map(point => [-point.ago_s, point[name]]);
  const range = [Math.min(-60, Math.max(-SPAN_S, -points[0].ago_s)), 0], xFormat = value => value ? `${number(-value / 60, 2)} min ago` : "now";
  const common = { range, xFormat };
  const rates = [{ name: "all", points: of("requests_per_s") }, { name: "refused (4xx)", points: of("rejected_per_s") }, { name: "failed (5xx)", points: of("failed_per_s") }];
  return [el("div", { class: "charts" },
    lines({ ...common, title: "Predictions a second", series: rates, format: value => number(value),
      summary: `Now ${number(now.requests_per_s)} a second, ${number(now.rejected_per_s)} refused, ${number(now.failed_per_s)} failed.` }),
    lines({ ...common, title: "Latency", format: seconds, series: [{ name: "median", points: of("p50_s") }, { name: "99th percentile", points: of("p99_s") }],
      summary: now.p50_s === null ? "No request in the last seconds." : `Now half of the requests take at most ${seconds(now.p50_s)}, 99 % at most ${seconds(now.p99_s)}.` }),
    lines({ ...common, title: "Rows that wait", format: value => number(value), series: [{ name: "waiting", points: of("waiting") }],
      summary: `Now ${number(now.waiting)}; more than ${number(server.queue_rows)} in a worker are refused.` })),
  el("p", { class: "note" }, server.workers > 1 ? `Of all ${server.workers} workers together.` : "Since this page's server started, at most a quarter of an hour.")];
}

function driftOf(each) {
  const head = el("h3", {}, `${each.name}, version ${each.version}`);
  if (!each.watched) return [head, el("p", {}, "The package has no profile of its training data to compare with.")];
  if (!each.windows) return [head, el("p", {}, "The first window is not over yet.")];
  const sizes = Object.entries(each.last.sizes), most = Math.max(0.3, ...sizes.map(([, psi]) => psi));
  const points = each.history.map((window, place) => [place - each.history.length + 1, window.psi]);
  const worst = each.history.at(-1);
  const chart = lines({ title: "The column that moved furthest, by window", series: [{ name: "highest PSI", points }], format: value => number(value),
    rules: [[0.25, "0.25: large"]], range: [Math.min(-1, points[0][0]), 0], xFormat: value => value ? `${plural(-value, "window")} ago` : "last window",
    summary: `Last window: ${worst.column} with ${number(worst.psi)}, of ${plural(worst.rows, "row")}.` });
  const rows = sizes.map(([name, psi]) => [name, number(psi), bar(0, psi, 0, most, psi >= 0.25 ? "bad" : psi >= 0.1 ? "look" : "fill"),
    psi >= 0.25 ? "large" : psi >= 0.1 ? "some" : "little"]);
  return [head, el("div", { class: "charts" }, chart, el("div", {}, sheet(`psi-${each.name}`,
    "Population stability index of the last window against training", [["Column"], ["PSI", true], [""], ["Drift"]], rows),
    each.left_out ? el("p", { class: "note" }, `${plural(each.left_out, "column")} with less not shown.`) : null)),
  each.findings.length ? el("ul", { class: "findings" }, each.findings.map(found => el("li", {}, found.text, found.hint ? el("p", { class: "note" }, found.hint) : null)))
    : el("p", {}, "Nothing was found that chance does not explain."),
  state.server.workers > 1 ? el("p", { class: "note" }, "Each worker watches what it answers itself; this is one of them.") : null];
}

// -- a row --------------------------------------------------------------------------------------------------------------

const query = () => { const [name, version] = JSON.parse(at("row-model").value); return new URLSearchParams({ model: name, version }); };

async function fillModels() {
  const choices = [...state.models.map(each => [each.name, each.version]), ...state.rollouts.map(each => [each.name, each.candidate])];
  const texts = choices.map(choice => JSON.stringify(choice)), select = at("row-model"), before = select.value;
  if (JSON.stringify([...select.options].map(each => each.value)) === JSON.stringify(texts)) return;
  select.replaceChildren(...choices.map(([name, version], place) => el("option", { value: texts[place] }, `${name}, version ${version}`)));
  const kept = texts.includes(before) ? before : texts.find(text => before && JSON.parse(text)[0] === JSON.parse(before)[0]) ?? texts[0];
  select.value = kept;
  if (kept !== before) await fillInputs();
}

async function fillInputs() {
  const next = await ask(`ui/form?${query()}`), same = form && JSON.stringify(form.inputs) === JSON.stringify(next.inputs);
  form = next;
  if (same) return;
  const inputs = form.inputs.length > MOST_FIELDS ? [el("label", { class: "wide" }, `The row as JSON, ${form.inputs.length} columns`,
    el("textarea", { id: "row-json", rows: 8, spellcheck: "false" }))] : form.inputs.map(field);
  at("row-inputs").replaceChildren(...inputs);
  at("row-answer").replaceChildren();
}

function field(input, place) {
  const id = `in-${place}`, listed = input.values.length && el("datalist", { id: `${id}-values` }, input.values.map(value => el("option", { value })));
  const node = input.kind === "flag" ? el("select", { id }, ["", "true", "false"].map(value => el("option", { value }, value || "missing")))
    : el("input", { id, type: "text", inputmode: input.kind === "number" ? "decimal" : null, autocomplete: "off", list: listed ? `${id}-values` : null,
      placeholder: input.kind === "time" ? (input.type.startsWith("date") ? "2024-05-06" : "2024-05-06T07:08:09") : "missing" });
  return el("div", { class: "field" }, el("label", { for: id }, input.name), node, listed || null, el("small", {}, input.type));
}

function fillTypical() {
  if (!form) return;
  const row = Object.fromEntries(form.inputs.map(input => [input.name, input.typical]));
  if (at("row-json")) at("row-json").value = JSON.stringify(row, null, 1);
  else form.inputs.forEach((input, place) => { at(`in-${place}`).value = input.typical === null ? "" : String(input.typical); });
}

function readRow() {
  if (at("row-json")) return JSON.parse(at("row-json").value || "{}");
  return Object.fromEntries(form.inputs.map((input, place) => [input.name, valueOf(input.kind, at(`in-${place}`).value)]));
}

function valueOf(kind, text) {
  if (text === "") return null;
  if (kind === "flag") return text === "true";
  return kind === "number" && Number.isFinite(Number(text)) ? Number(text) : text;
}

at("row-model").addEventListener("change", () => fillInputs().catch(problemOfRow));
at("row-typical").addEventListener("click", fillTypical);
at("row").addEventListener("submit", event => {
  event.preventDefault();
  if (!form) return;
  let row;
  try { row = readRow(); } catch (error) { problemOfRow(new Error(`That is no JSON: ${error.message}`)); return; }
  ask(`explain?${query()}`, row).then(told => at("row-answer").replaceChildren(...answer(told))).catch(problemOfRow);
});

function problemOfRow(error) {
  for (const [place, input] of (form?.inputs ?? []).entries()) {
    const node = at(`in-${place}`), isWrong = node && (input.name === error.column || (input.kind === "number" && typeof valueOf("number", node.value) === "string"));
    node?.setAttribute("aria-invalid", String(Boolean(isWrong)));
  }
  at("row-answer").replaceChildren(el("p", { class: "problem" }, error.message));
}

function answer(told) {
  for (const each of document.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  const why = told.explanation, share = why.of !== null, write = share ? percent : number;
  const chances = told.probabilities && el("p", { class: "note" }, Object.entries(told.probabilities).slice(0, 12).map(([name, value]) => `${name} ${percent(value)}`).join(" · "));
  const head = el("p", { class: "answer" }, `${told.model}, version ${told.version}: `, el("strong", {}, typeof told.prediction === "number" ? number(told.prediction, 5) : String(told.prediction)));
  return [head, chances || null, ...explanation(why, share ? `the probability of ${why.of}` : "the number", write)].filter(Boolean);
}

function explanation(why, what, write) {
  if (why.share === 0) return [el("p", {}, `Why cannot be told: models of this kind (${why.silent.join(", ")}) do not say what each column adds.`)];
  const columns = why.columns.filter(each => each.contribution !== 0).slice(0, 25);
  const hidden = why.columns.filter(each => each.contribution !== 0).length - columns.length;
  const ends = columns.map(each => each.contribution), [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const points = value => write === number ? signed(value) : `${signed(100 * value)} points`;
  const rows = columns.map(each => [each.column, each.value === null || each.value === undefined ? "missing" : String(each.value).slice(0, 60), points(each.contribution),
    bar(0, each.contribution, low, high, each.contribution < 0 ? "s1" : "s0")]);
  return [el("p", {}, `Without knowing the row the model says ${write(why.start)}; what the columns add makes it ${write(why.answer)}: ${what}.`),
    rows.length ? sheet("why", `What each column adds to ${what}`, [["Column"], ["Value"], ["Adds", true], [""]], rows) : el("p", {}, "No column adds anything."),
    hidden > 0 ? el("p", { class: "note" }, `${plural(hidden, "column")} with less not shown.`) : null,
    why.silent.length ? el("p", { class: "note" }, `Explained are members with ${percent(why.share)} of the weight; what the others (${why.silent.join(", ")}) make of the row is in the number at the start.`) : null,
    Math.abs(why.rest) > 0.01 * Math.abs(why.answer - why.start) && Math.abs(why.rest) > 1e-9 ? el("p", { class: "note" }, `${points(why.rest)} could not be given to a column.`) : null,
    el("p", { class: "note" }, "Contributions tell what the model does with a row, not what would happen if the row were another one.")];
}

// -- begin --------------------------------------------------------------------------------------------------------------

async function go() {
  if (!paused && !document.hidden && (at("key").hidden || state !== null)) await look();
  setTimeout(go, EVERY_MS);
}
go();
