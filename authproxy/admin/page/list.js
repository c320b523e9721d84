// The list of requests: the newest as they come, or a page of older ones.
//
//   add() ─▶ waits for the next frame ─▶ those that fit the filters become rows, MAX_ROWS at most

import {arrange, byId, make, setAttribute, setText, show} from "./dom.js";
import {brief, target, tone} from "./explain.js";
import {count, time, took} from "./format.js";

export const MAX_ROWS = 100;
const HELD = 700;  // milliseconds that rows stay where they are after the pointer has moved over them

export class List {
  #rows = new Map();  // by id
  #requests = [];  // what is shown, or would be, newest first
  #waiting = [];
  #frame = 0;
  #movedAt = -Infinity;
  #open;
  isLive = true;  // false on a page of older ones
  paused = false;

  /** `open(id)` shows one request. */
  constructor(open) {
    this.#open = open;
    byId("rows").addEventListener("pointermove", () => this.#movedAt = performance.now());
    byId("rows").addEventListener("pointerleave", () => this.#movedAt = -Infinity);
  }

  /** Show these, newest first. */
  set(requests) {
    const known = new Set(requests.map(each => each.id));
    const newer = this.isLive ? this.#waiting.filter(each => !known.has(each.id) && each.id > (requests[0]?.id ?? "")) : [];
    this.#waiting = [];
    this.#requests = [...newer, ...requests].sort(newestFirst).slice(0, MAX_ROWS);
    this.#draw();
  }

  /** Take in one that has just ended; tell whether it belongs here. */
  add(request) {
    if (!this.isLive || !fits(request, filters())) return false;
    this.#waiting.push(request);
    if (this.#waiting.length > MAX_ROWS) this.#waiting.shift();
    this.#frame ||= requestAnimationFrame(() => this.#flush());
    return true;
  }

  flush() { this.#frame ||= requestAnimationFrame(() => this.#flush()); }

  get waiting() { return this.#waiting.length; }
  get length() { return this.#requests.length; }
  get last() { return this.#requests.at(-1)?.id ?? null; }

  #flush() {
    this.#frame = 0;
    if (!this.#waiting.length || this.paused) return;
    if (performance.now() - this.#movedAt < HELD) {
      this.#frame = requestAnimationFrame(() => this.#flush());
      return;
    }
    const known = new Set(this.#requests.map(each => each.id));
    const fresh = this.#waiting.filter(each => !known.has(each.id));
    this.#waiting = [];
    this.#requests = [...fresh, ...this.#requests].sort(newestFirst).slice(0, MAX_ROWS);
    this.#draw();
  }

  #draw() {
    const focused = document.activeElement?.closest("tr[data-id]");
    const rows = this.#requests.map(each => this.#row(each));
    if (focused && this.isLive && rows.length && !rows.includes(focused)) rows.push(focused);  // until the focus goes on
    arrange(byId("rows"), rows);
    for (const [id, row] of this.#rows) if (!row.isConnected) this.#rows.delete(id);
    show(byId("list"), rows.length > 0);
  }

  #row(request) {
    const known = this.#rows.get(request.id);
    if (known) return known;
    const cell = (kind, ...children) => make("td", {role: "cell", class: kind}, ...children);
    const said = brief(request);
    const row = make("tr", {role: "row", "data-id": request.id},
      cell("time", make("time", {datetime: request.at}, time(Date.parse(request.at)))),
      cell("status", make("span", {class: "code", "data-tone": tone(request)}, request.status ? String(request.status) : "–")),
      cell("asked", make("button", {type: "button", class: "link", title: target(request), click: () => this.#open(request.id)},
        make("span", {class: "method"}, request.method), " ", make("span", {class: "path"}, target(request)))),
      cell("route", request.route ?? "–"),
      cell("done", said),
      cell("number", took(request.ms)));
    this.#rows.set(request.id, row);
    return row;
  }
}

const newestFirst = (one, other) => one.id < other.id ? 1 : -1;

/** Return the filters as they are set, without those that are not. */
export function filters() {
  const found = Object.fromEntries(["route", "status", "method", "q"].map(name => [name, byId(`filter-${name}`).value]));
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value));
}

/** Whether a request fits the filters, as the API takes them. */
export function fits(request, {route, status, method, q}) {
  return (!route || request.route === route) && (!status || fitsStatus(request.status, status))
    && (!method || request.method.toUpperCase() === method) && (!q || isIn(q, request.path));
}

function fitsStatus(status, wanted) {
  if (wanted.startsWith(">=")) return status >= Number(wanted.slice(2));
  return wanted.endsWith("xx") ? Math.floor(status / 100) === Number(wanted[0]) : status === Number(wanted);
}

function isIn(q, path) {
  if (path.includes(q)) return true;
  try {
    return decodeURIComponent(path).includes(q);
  } catch {
    return false;
  }
}

/** Fill the choice of routes, keeping what is chosen. */
export function setRoutes(names) {
  const select = byId("filter-route");
  const wanted = ["", ...names];
  if (wanted.join("\n") === [...select.options].map(each => each.value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map(each => make("option", {value: each}, each || "all")));
  select.value = names.includes(chosen) ? chosen : "";
}

/** Say how many requests were not told of one by one. */
export function note(list, lost) {
  const parts = [];
  if (list.paused) parts.push(list.waiting ? `Paused: ${count(list.waiting)} new` : "Paused");
  if (lost) parts.push(`${count(lost)} not listed: there are too many to show each`);
  setText(byId("requests-note"), parts.join(" · "));
  setAttribute(byId("pause"), "aria-pressed", list.paused ? "true" : "false");
}
