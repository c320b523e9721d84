// Four small charts of the same five minutes, each with its figures in words.

import {byId, drawn, make, setAttribute, setText} from "./dom.js";
import {count, counted, rough, time, took} from "./format.js";
import {STEP, STEPS} from "./series.js";

const HEIGHT = 48;
const GAP = 0.2;  // of a bar's width

const sum = (steps, name) => Math.round(steps.reduce((total, each) => total + (each[name] ?? 0), 0));
const most = (steps, name) => Math.max(0, ...steps.map(each => each[name] ?? 0));

const CHARTS = [
  {
    title: "Requests", bars: [["rate", ""]], tone: "traffic", top: value => `${rough(value)} /s`,
    now: steps => `${rough(recent(steps))} /s`,
    words: steps => `${counted(sum(steps, "requests"), "request")}, at most ${rough(most(steps, "rate"))} a second.`,
  },
  {
    title: "Errors", bars: [["errors", ""]], tone: "bad", top: value => rough(value),
    now: steps => count(sum(steps, "errors")),
    words: steps => `${counted(sum(steps, "errors"), "answer")} of 500 and above.`,
  },
  {
    title: "Repeats", bars: [["retries", ""]], tone: "warn", top: value => rough(value),
    now: steps => count(sum(steps, "retries")),
    words: steps => `${counted(sum(steps, "retries"), "request")} repeated with another token.`,
  },
  {
    title: "Latency", bars: [["p99", "pale"], ["p50", ""]], tone: "traffic", top: value => took(value), least: 1,
    now: steps => took(steps.findLast(each => each.p50 !== null)?.p50 ?? null),
    words: steps => `The slowest 5 seconds: half of the requests within ${took(most(steps, "p50"))}, 99 % within ${took(most(steps, "p99"))}.`,
    legend: "p50, p99 pale",
  },
];

function recent(steps) {
  const known = steps.filter(each => each.rate !== null);
  return known.at(-1)?.rate ?? 0;
}

export class Charts {
  #charts = CHARTS.map(each => ({...each, ...figure(each)}));

  constructor() {
    byId("charts").append(...this.#charts.map(each => each.figure));
    byId("numbers").addEventListener("toggle", () => this.#table());
  }

  #steps = [];

  draw(steps) {
    this.#steps = steps;
    for (const chart of this.#charts) {
      const top = Math.max(chart.least ?? 0, ...chart.bars.map(([name]) => most(steps, name)));
      chart.bars.forEach(([name], index) => setAttribute(chart.paths[index], "d", bars(steps, name, top)));
      setText(chart.value, chart.now(steps));
      setText(chart.scale, top > (chart.least ?? 0) ? chart.top(top) : "");
      setText(chart.told, chart.words(steps));
    }
    if (byId("numbers").open) this.#table();
  }

  /** The same as numbers, a minute a row. */
  #table() {
    if (!byId("numbers").open) return;
    const minutes = [];
    for (let first = 0; first < STEPS; first += 60 / STEP) minutes.push(this.#steps.slice(first, first + 60 / STEP));
    const head = ["From", "Requests", "Errors", "Repeats", "p50", "p99"].map(name => make("th", {scope: "col"}, name));
    const rows = minutes.filter(each => each.length).toReversed().map(steps => make("tr", {},
      make("th", {scope: "row"}, time(steps[0].at * 1000)),
      ...["requests", "errors", "retries"].map(name => make("td", {}, count(sum(steps, name)))),
      ...["p50", "p99"].map(name => make("td", {}, took(most(steps, name) || null)))));
    byId("numbers-table").replaceChildren(
      make("table", {class: "numbers"}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
  }
}

function figure(chart) {
  const paths = chart.bars.map(([, kind]) => drawn("path", {class: kind}));
  const value = make("span", {class: "value"}), scale = make("span", {class: "scale", "aria-hidden": "true"});
  const told = make("p", {class: "unseen"});
  const picture = drawn("svg", {viewBox: `0 0 ${STEPS} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false"}, paths);
  return {
    paths, value, scale, told,
    figure: make("figure", {class: "chart", "data-tone": chart.tone},
      make("figcaption", {}, make("span", {}, chart.title), chart.legend ? make("small", {class: "muted"}, chart.legend) : null, value),
      make("div", {class: "picture"}, scale, picture), told),
  };
}

/** Return the path of one bar a step; what is there at all is seen. */
function bars(steps, name, top) {
  return steps.map((each, index) => {
    const value = each[name] ?? 0;
    if (value <= 0 || top <= 0) return "";
    const height = Math.max(1.5, value / top * HEIGHT);
    return `M${index + GAP / 2} ${HEIGHT}v${-height.toFixed(2)}h${1 - GAP}V${HEIGHT}z`;
  }).join("");
}
