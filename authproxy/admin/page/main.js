// The live page: what the admin API tells, shown; and what a person may do about it.
//
//   connection.js ─▶ status and events ─▶ cards.js, charts.js (of series.js), list.js
//                                         a row ─▶ detail.js (explain.js, curl.js)

import {Problem, ask, clock, keyHeader} from "./api.js";
import {Cards, sentence} from "./cards.js";
import {Charts} from "./charts.js";
import {Connection} from "./connection.js";
import {example} from "./curl.js";
import {Detail, copy} from "./detail.js";
import {byId, make, prose, setAttribute, setText, show} from "./dom.js";
import {ago, counted} from "./format.js";
import {List, MAX_ROWS, filters, note, setRoutes} from "./list.js";
import {STEP, STEPS, Series} from "./series.js";

const RING = 500;  // requests in one answer of the API
const SAID = 8000;  // milliseconds that a message stays

let status = null;
let silence = 0;  // the timer after which a message goes
let faults = [];  // of the configuration, that are shown
let lost = 0;
let loads = 0;  // how often the list was loaded: only the last one counts
let before = null;  // the id that the page of older requests begins after

const now = () => Date.now() / 1000 + clock.ahead;
const at = text => Date.parse(text) / 1000;
const reached = () => ({listeners: status?.listeners ?? [], authority: status?.ca_file, forward: status?.forward});
const series = new Series();
const charts = new Charts();
const detail = new Detail(() => ({routes: status?.routes ?? [], ...reached()}), say);
const list = new List(id => detail.open(id));
const cards = new Cards({renew, forget});

const connection = new Connection({start, poll, told, paused: () => series.pause(), changed});

// ── what is told ─────────────────────────────────────────────────────────────────────────────────

async function start() {
  await takeStatus();
  const {requests} = await ask("/api/requests");
  const oldest = requests.at(-1);
  const from = Math.max(now() - STEP * STEPS, at(status.started_at), requests.length >= RING ? at(oldest.at) : 0);
  series.backfill(requests, from, now());
  await load();
  drawCharts();
}

async function poll() {
  await takeStatus();
  drawCharts();
}

function told(name, data) {
  if (name === "request") {
    series.sample(data);
    if (list.add(data)) show(byId("empty"), false);
    if (list.paused) showNote();
  } else if (name === "status" && status !== null) {
    const previous = status.routes.find(each => each.name === data.name);
    status.routes = status.routes.map(each => each.name === data.name ? data : each);
    if (previous && previous.state !== data.state) announce(data);
    drawRoutes();
  } else if (name === "lost") {
    lost += data.count;
    showNote();
  }
}

function announce(route) {
  const words = {failing: "is failing", rejected: "is rejected", refused: "is refused by the upstream", login_required: "needs a login"};
  if (words[route.state]) say(`${route.name} ${words[route.state]}.`, "warn");
}

function changed(error) {
  const isAway = connection.is === "gone" || connection.is === "refused";
  setAttribute(byId("connection"), "data-is", connection.is);
  show(byId("try-now"), isAway);
  setAttribute(document.body, "data-stale", isAway ? "true" : null);
  if (connection.is === "locked") {
    status = null;
    for (const dialog of [byId("request"), byId("confirm")]) dialog.close();
    show(byId("content"), false);
  }
  show(byId("absent"), isAway && status === null);
  if (isAway && status === null && (error !== null || connection.is === "gone")) {
    setText(byId("absent-title"), connection.is === "gone" ? "The proxy does not answer" : "The proxy does not let this page in");
    setText(byId("absent-text"), connection.is === "gone" ? "It may have been stopped. This page goes on as soon as it is back."
      : [sentence(error.message), error.hint ? sentence(error.hint) : ""].join(" "));
  }
  tick();
}

// ── what is shown ────────────────────────────────────────────────────────────────────────────────

async function takeStatus() {
  const told = await ask("/api/status");
  const isFirst = status === null;
  status = told;
  series.cover(status.routes, now());
  const isUnlocked = !byId("lock").hidden;
  show(byId("lock"), false);
  show(byId("absent"), false);
  show(byId("content"), true);
  drawBar();
  drawRoutes();
  if (isFirst && isUnlocked) byId("main").focus();
}

function drawBar() {
  setText(byId("version"), status.version);
  const listeners = byId("listeners");
  const forward = status.forward?.listener;
  const wanted = [...status.listeners, forward].join(" ");
  if (listeners.dataset.of !== wanted) {
    listeners.dataset.of = wanted;
    const urls = status.listeners.filter(each => each !== forward).flatMap((each, index) => [index ? ", " : "", make("code", {}, each)]);
    listeners.replaceChildren(make("span", {class: "muted"}, "listens on "), ...urls,
      ...(forward ? [make("span", {class: "muted"}, ", forward proxy on "), make("code", {}, forward)] : []));
  }
  const {file, fault} = status.config;
  setText(byId("config-file"), file ?? "the command line");
  if (fault === null) drawFaults([], "");
  else if (!faults.some(each => JSON.stringify(each) === JSON.stringify(fault))) {
    drawFaults([fault], "The last reload changed nothing. The configuration's first fault:");
  }
}

function drawFaults(found, title) {
  show(byId("faults"), found.length > 0, byId("reload"));
  if (JSON.stringify(found) === JSON.stringify(faults)) return;
  faults = found;
  setText(byId("faults-title"), title);
  byId("faults-list").replaceChildren(...found.map(({file, line, column, key, message}) => make("li", {},
    make("code", {}, line ? `${file}:${line}:${column}` : file), " ", key ? make("strong", {}, key) : null, key ? ": " : null, ...prose(message))));
}

function drawRoutes() {
  cards.update(status.routes, now());
  setRoutes(status.routes.map(each => each.name));
  const troubled = status.routes.filter(each => ["failing", "rejected", "refused", "login_required"].includes(each.state));
  document.title = troubled.length ? `${troubled.length} in trouble · authproxy` : "authproxy";
}

function drawCharts() { charts.draw(series.steps(now())); }

function tick() {
  setText(byId("connection-text"), connection.words());
  if (status === null || document.hidden || document.body.dataset.stale) return;
  cards.tick(now());
  setText(byId("config-loaded"), ago(now() - at(status.config.loaded_at)));
}

function showNote() { note(list, lost); }

/** Say what came of a deed, for a while. */
function say(text, tone = "good") {
  const toast = byId("toast");
  setText(byId("said"), text);
  setText(toast, text);
  setAttribute(toast, "data-tone", tone);
  if (toast.matches(":popover-open")) toast.hidePopover();
  toast.showPopover();  // above a dialog, if one is open
  clearTimeout(silence);
  silence = setTimeout(() => {
    toast.hidePopover();
    setText(byId("said"), "");
  }, SAID);
}

// ── the list ─────────────────────────────────────────────────────────────────────────────────────

/** Load the page of requests that is looked at. Throws as `ask` does. */
async function load() {
  const wanted = new URLSearchParams({...filters(), limit: MAX_ROWS + 1, ...(before ? {before} : {})});
  const turn = loads += 1;
  const {requests} = await ask(`/api/requests?${wanted}`);
  if (turn !== loads) return null;
  list.isLive = before === null;
  list.set(requests.slice(0, MAX_ROWS));
  show(byId("older"), requests.length > MAX_ROWS, byId("newest"));
  show(byId("newest"), before !== null, byId("older"));
  const isFiltered = Object.keys(filters()).length > 0;
  show(byId("clear"), isFiltered, byId("filter-q"));
  drawEmpty(requests.length === 0, isFiltered);
  showNote();
  return requests.length;
}

function drawEmpty(isEmpty, isFiltered) {
  show(byId("empty"), isEmpty);
  const fine = status.routes.find(each => !["failing", "rejected", "login_required"].includes(each.state)) ?? status.routes[0];
  setText(byId("empty-title"), isFiltered ? "No remembered request fits these filters." : before ? "There are no older ones." : "No requests yet. Try:");
  show(byId("empty-try"), !isFiltered && !before && fine !== undefined);
  if (fine) setText(byId("empty-curl"), example(fine, reached(), keyHeader()));
}

async function reload({announced = false} = {}) {
  try {
    const found = await load();
    if (announced && found !== null) say(found > MAX_ROWS ? `More than ${counted(MAX_ROWS, "request")}.` : counted(found, "request"), "calm");
  } catch (error) {
    say(error.message, "bad");
  }
}

let typing = 0;
byId("filters").addEventListener("submit", event => event.preventDefault());
byId("filters").addEventListener("input", () => {
  clearTimeout(typing);
  before = null;
  typing = setTimeout(() => reload({announced: true}), 200);
});
byId("filters").addEventListener("reset", () => setTimeout(() => { before = null; reload({announced: true}); }));
byId("older").addEventListener("click", () => turn(list.last));
byId("newest").addEventListener("click", () => turn(null));
byId("pause").addEventListener("click", () => {
  list.paused = !list.paused;
  if (!list.paused) list.flush();
  showNote();
});
byId("empty-copy").addEventListener("click", async () => {
  const code = byId("empty-curl");
  say(await copy(code.textContent, code) ? "Copied." : "It could not be copied: it is selected.", "good");
});

async function turn(id) {
  before = id;
  await reload();
  byId("requests").scrollIntoView();
  byId("requests").focus({preventScroll: true});
}

// ── deeds ────────────────────────────────────────────────────────────────────────────────────────

async function renew(name) {
  try {
    const route = await ask(`/api/routes/${encodeURIComponent(name)}/refresh`, "POST");
    told("status", route);
    return {text: "Renewed.", tone: "good"};
  } catch (error) {
    await takeStatus().catch(() => {});
    return failure("It could not be renewed", error);
  }
}

async function forget(name) {
  const isSure = await confirmed({
    title: `Forget the token of ${name}?`, yes: "Forget",
    text: "Stored copies go as well. The next request obtains a new token; where a person has to log in, they have to again.",
  });
  if (!isSure) return null;
  try {
    await ask(`/api/routes/${encodeURIComponent(name)}/forget`, "POST");
    await takeStatus();
    return {text: "Forgotten.", tone: "good"};
  } catch (error) {
    return failure("It could not be forgotten", error);
  }
}

function failure(what, error) {
  return {text: [`${what}: ${sentence(error.message)}`, error.hint ? sentence(error.hint) : ""].join(" ").trim(), tone: "bad"};
}

async function confirmed({title, text, yes}) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise(end => dialog.addEventListener("close", end, {once: true}));
  return dialog.returnValue === "yes";
}

byId("reload").addEventListener("click", async () => {
  try {
    await ask("/api/reload", "POST");
    drawFaults([], "");
    say("The configuration was read again, and holds now.");
    await takeStatus();
  } catch (error) {
    if (error instanceof Problem && error.faults) drawFaults(error.faults, `Nothing was changed: the configuration has ${counted(error.faults.length, "fault")}.`);
    say(error instanceof Problem && error.faults ? "The configuration has faults: nothing was changed." : error.message, "bad");
  }
});
byId("try-now").addEventListener("click", () => connection.tryNow());
setInterval(() => { if (!document.hidden) tick(); }, 1000);
connection.run();
