// A card a route: how its token stands, and what a person may do about it.

import {arrange, byId, drawn, make, setAttribute, setProse, setText, show} from "./dom.js";
import {STATES, scheme} from "./explain.js";
import {ago, count, counted, countdown, span, took} from "./format.js";

const SIGNS = {
  ring: "M8 3a5 5 0 1 0 0 10A5 5 0 1 0 8 3z",
  tick: "M2.5 8.5l3.5 4 7.5-9",
  turn: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3.2H9.8",
  triangle: "M8 2l6.5 12h-13zM8 6.5v3.5M8 12v.2",
  cross: "M3 3l10 10M13 3L3 13",
  diamond: "M8 1.5l6.5 6.5L8 14.5 1.5 8zM8 5v3.5M8 10.7v.2",
  person: "M8 2.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 1 0 0-5.6zM2.5 14a5.5 5.5 0 0 1 11 0",
};

const ORDER = ["failing", "rejected", "refused", "login_required", "renewing", "valid", "idle", "no_token_needed"];

const at = text => text === null ? null : Date.parse(text) / 1000;

export class Cards {
  #cards = new Map();
  #acts;

  /** `acts` are what its buttons do: `{renew(name, card), forget(name, card)}`. */
  constructor(acts) { this.#acts = acts; }

  update(routes, now) {
    const names = new Set(routes.map(each => each.name));
    for (const name of this.#cards.keys()) if (!names.has(name)) this.#cards.delete(name);
    for (const route of routes) {
      if (!this.#cards.has(route.name)) this.#cards.set(route.name, new Card(route.name, this.#acts));
      this.#cards.get(route.name).update(route, now);
    }
    arrange(byId("routes"), routes.map(each => this.#cards.get(each.name).element));
    setText(byId("routes-summary"), summary(routes));
  }

  /** Let the times go on. */
  tick(now) { for (const card of this.#cards.values()) card.tick(now); }
}

function summary(routes) {
  const found = ORDER.map(state => [routes.filter(each => each.state === state).length, STATES[state].word.toLowerCase()]);
  return found.filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(" · ");
}

let made = 0;

class Card {
  #route = null;
  #said = null;  // what came of the last button
  #parts = {};

  constructor(name, acts) {
    const id = `route-${made += 1}`;
    const part = (key, tag, attributes = {}, ...children) => this.#parts[key] = make(tag, attributes, ...children);
    const path = drawn("path", {});
    this.#parts.sign = path;
    const sign = drawn("svg", {viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false"}, path);
    this.element = make("article", {class: "card", "aria-labelledby": id},
      make("div", {class: "top"},
        part("title", "h3", {id, tabindex: "-1"}, name),
        part("state", "p", {class: "state"}, sign, part("word", "span"))),
      part("way", "p", {class: "way"}, part("from", "code"), make("span", {"aria-label": "to"}, " → "), part("to", "code")),
      part("life", "div", {class: "life"},
        make("p", {}, part("lifeName", "span", {class: "muted"}), " ", part("left", "strong", {class: "countdown"})),
        make("div", {class: "meter", "aria-hidden": "true"}, part("meter", "div"))),
      part("means", "p", {class: "means muted"}),
      part("trouble", "div", {class: "trouble"},
        part("detail", "p"), part("hint", "p", {class: "hint"}), part("next", "p", {class: "muted"})),
      make("dl", {class: "facts"},
        ...["Renewed", "Token", "Requests", "Latency"].map(each => make("div", {}, make("dt", {}, each), part(each, "dd")))),
      part("answer", "p", {class: "answer", role: "status"}),
      part("buttons", "div", {class: "buttons"},
        part("login", "a", {class: "button first", target: "_blank", rel: "noopener", href: `/login/${encodeURIComponent(name)}`}, "Log in", make("span", {class: "unseen"}, ` to ${name}, in a new tab`)),
        part("renew", "button", {type: "button", click: () => this.#act(acts.renew)}, "Renew", make("span", {class: "unseen"}, ` the token of ${name}`)),
        part("forget", "button", {type: "button", click: () => this.#act(acts.forget)}, "Forget", make("span", {class: "unseen"}, ` the token of ${name}`))));
  }

  async #act(act) {
    const {renew, forget} = this.#parts;
    if (renew.getAttribute("aria-disabled")) return;
    for (const each of [renew, forget]) setAttribute(each, "aria-disabled", "true");
    const said = await act(this.#route.name);
    for (const each of [renew, forget]) setAttribute(each, "aria-disabled", null);
    if (said !== null) this.say(said);
  }

  /** Say what came of a button, until something else is the case. */
  say({text, tone}) {
    this.#said = `${this.#route.state} ${this.#route.renewed_at}`;
    setAttribute(this.#parts.answer, "data-tone", tone);
    setText(this.#parts.answer, text);
  }

  update(route, now) {
    this.#route = route;
    const state = STATES[route.state] ?? {word: route.state, sign: "ring", tone: "calm", means: ""};
    const {trouble} = route;
    const {sign, word, from, to, means, title, login, renew, buttons} = this.#parts;
    setAttribute(this.element, "data-tone", state.tone);
    setAttribute(this.#parts.state, "data-tone", state.tone);
    setAttribute(sign, "d", SIGNS[state.sign]);
    setText(word, state.word);
    const mount = [route.host, route.path].filter(Boolean).join("") || "/";
    setText(from, [route.listen, route.listen && mount === "/" ? null : mount].filter(Boolean).join(", "));
    setText(to, route.upstream.replace(/^https:\/\//, ""));
    setAttribute(this.#parts.way, "title", route.upstream);
    setText(means, trouble ? "" : state.means);
    show(means, means.textContent !== "");
    show(login, route.state === "login_required" || route.login_url !== null, title);
    setAttribute(login, "class", route.state === "login_required" ? "button first" : "button");
    show(renew, route.state !== "login_required", login);
    show(buttons, route.state !== "no_token_needed", title);
    show(this.#parts.trouble, trouble !== null);
    setAttribute(this.#parts.trouble, "data-tone", state.tone === "bad" ? "bad" : "warn");
    if (trouble) {
      const code = trouble.error && !trouble.detail.includes(trouble.error) ? ` (${trouble.error})` : "";
      setProse(this.#parts.detail, sentence(trouble.detail + code));
      setProse(this.#parts.hint, trouble.hint ? sentence(trouble.hint) : "");
    }
    this.#facts(route);
    if (this.#said !== null && this.#said !== `${route.state} ${route.renewed_at}`) {
      this.#said = null;
      setText(this.#parts.answer, "");
    }
    this.tick(now);
  }

  #facts(route) {
    const kind = route.preset ?? route.grant, {p50, p99} = route.latency_ms;
    const more = [route.errors ? counted(route.errors, "error") : "", route.retries ? `${count(route.retries)} repeated` : ""];
    this.#fact("Token", route.state === "no_token_needed" ? "" : `${scheme(route)}, ${kind}`);
    this.#fact("Requests", [route.requests ? count(route.requests) : "none yet", ...more].filter(Boolean).join(" · "));
    this.#fact("Latency", p50 === null ? "" : `p50 ${took(p50)} · p99 ${took(p99)}`);
  }

  #fact(name, text) {
    setText(this.#parts[name], text);
    show(this.#parts[name].parentElement, text !== "");
  }

  tick(now) {
    const route = this.#route, {life, lifeName, left, meter, next} = this.#parts;
    const ends = at(route.expires_at), renewed = at(route.renewed_at), tried = at(route.next_try_at);
    this.#fact("Renewed", renewed === null ? "" : ago(now - renewed));
    show(life, ends !== null);
    if (ends !== null) {
      setText(lifeName, ends > now ? "Expires in" : "Expired");
      setText(left, ends > now ? countdown(ends - now) : ago(now - ends));
      const share = renewed === null || ends <= renewed ? 0 : Math.min(1, Math.max(0, (ends - now) / (ends - renewed)));
      meter.style.width = `${(share * 100).toFixed(1)}%`;
    }
    setText(next, tried === null ? "" : tried > now ? `Next try in ${span(tried - now)}` : "The next request tries again");
  }
}

/** Return a text as a sentence. */
export function sentence(text) {
  const begun = /^[a-z][a-z]* /.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?`)]$/.test(begun) ? begun : `${begun}.`;
}
