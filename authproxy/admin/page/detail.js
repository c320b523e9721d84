// One request: what was done to it, how long each step took, why it was refused, what went over the wire.

import {Problem, ask, keyHeader} from "./api.js";
import {sentence} from "./cards.js";
import {command} from "./curl.js";
import {byId, drawn, make, prose, setAttribute, setText} from "./dom.js";
import {stepName, story, target, tone, why} from "./explain.js";
import {size, span, time, took} from "./format.js";

const ORIGINS = {
  held: "it was held", fetched: "fetched for this request", renewed: "renewed in the place of another",
  waited: "fetched for another request",
};
const TRIES = 60, PAUSE = 150;  // until a request that was sent again has ended: 9 s

export class Detail {
  #context;
  #shown = null;

  /** `context()` returns `{routes, listeners, authority}` as they are now; `say(text, tone)` tells what came of a deed. */
  constructor(context, say) {
    this.#context = context;
    this.say = say;
    const dialog = byId("request");
    byId("request-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => this.#shown = null);
  }

  /** Show a request, once it has ended. */
  async open(id, {patiently = false, said = null} = {}) {
    this.#shown = id;
    const request = await this.#fetch(id, patiently ? TRIES : 1);
    if (request === null || this.#shown !== id) return;
    this.#draw(request, said);
    const dialog = byId("request");
    if (!dialog.open) dialog.showModal();
    byId("toast").hidePopover();
    dialog.scrollTop = 0;
    byId("request-title").focus();
  }

  async #fetch(id, tries) {
    for (let left = tries; ; left -= 1) {
      try {
        return await ask(`/api/requests/${encodeURIComponent(id)}`);
      } catch (error) {
        const isGone = error instanceof Problem && error.status === 404;
        if (!isGone || left <= 1) {
          this.say(isGone ? (tries > 1 ? "It was sent, and has not ended yet." : "That request is not remembered any more.") : error.message, "bad");
          return null;
        }
        await new Promise(end => setTimeout(end, PAUSE));
      }
    }
  }

  #draw(request, said) {
    const {routes, listeners, authority, forward} = this.#context();
    const route = routes.find(each => each.name === request.route);
    byId("request-title").replaceChildren(
      make("span", {class: "code", "data-tone": tone(request)}, request.status ? String(request.status) : "–"), " ",
      make("span", {class: "method"}, request.method), " ", make("span", {class: "path"}, target(request)));
    byId("request-body").replaceChildren(...[
      telling(request, route), reason(request, route, listeners), waterfall(request, route),
      ["-", "CONNECT"].includes(request.method) ? null : this.#deeds(request, route, {listeners, authority, forward}, said), facts(request),
      headers("Request headers", request.request_headers, request.headers_cut), body("Request body", request.request_body),
      headers("Response headers", request.response_headers, request.headers_cut), body("Response body", request.response_body),
    ].filter(Boolean));
  }

  #deeds(request, route, reached, said) {
    const {text, note} = command(request, route, reached, keyHeader());
    const answer = make("p", {class: "answer", role: "status"});
    const pre = make("pre", {tabindex: "0", "aria-label": "The request as a curl command"}, make("code", {}, text));
    const say = (text, tone = "good") => {
      setAttribute(answer, "data-tone", tone);
      setText(answer, text);
    };
    if (said) say(said);
    const copied = async () => {
      const done = await copy(text, pre);
      say(done ? `Copied. ${note ? sentence(note) : ""}`.trim() : "It could not be copied: it is selected below.", done ? "good" : "warn");
    };
    const replay = async () => {
      say("Sending it again…", "calm");
      try {
        const {id} = await ask(`/api/requests/${encodeURIComponent(request.id)}/replay`, "POST");
        await this.open(id, {patiently: true, said: "Sent again: this is the new request."});
      } catch (error) {
        say([sentence(error.message), error.hint ? sentence(error.hint) : ""].join(" ").trim(), "bad");
      }
    };
    return make("section", {class: "deeds"},
      make("div", {class: "buttons"},
        make("button", {type: "button", class: "first", click: replay}, "Replay"),
        make("button", {type: "button", click: copied}, "Copy as curl")),
      answer,
      make("details", {}, make("summary", {}, "The curl command"), pre, note ? make("p", {class: "muted"}, sentence(note)) : null));
  }
}

/** Copy a text; where the browser does not let a page do that, select it. */
export async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (element.closest("details")) element.closest("details").open = true;
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

function telling(request, route) {
  const said = story(request, route).map(({text, tone}) => make("li", {"data-tone": tone || null}, text));
  return make("ol", {class: "story", "aria-label": "What was done"}, said);
}

function reason(request, route, listeners) {
  const found = why(request, route, listeners);
  if (found === null) return null;
  const by = {authproxy: "Answered by authproxy itself", upstream: "Answered by the upstream", broken: "Broken off", nobody: "Not answered"}[found.by];
  return make("section", {class: "trouble", "data-tone": tone(request) === "bad" ? "bad" : "warn", "aria-label": "Why"},
    make("p", {class: "muted"}, found.title && found.title !== by ? `${by}: ${found.title}` : by),
    make("p", {}, make("strong", {}, ...prose(sentence(found.detail)))),
    found.hint ? make("p", {class: "hint"}, ...prose(sentence(found.hint))) : null);
}

function waterfall(request, route) {
  const whole = Math.max(request.ms, 0.001);
  let begun = 0;
  const rows = request.steps.map(step => {
    const from = Math.min(99, begun / whole * 100), width = Math.max(1, Math.min(100 - from, step.ms / whole * 100));
    begun += step.ms;
    return make("li", {},
      make("span", {class: "name"}, stepName(step, route)),
      drawn("svg", {class: step.ms < 0.05 ? `${step.what} short` : step.what, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false"},
        drawn("rect", {class: "track", x: 0, y: 3.5, width: 100, height: 1}),
        drawn("rect", {class: "span", x: from.toFixed(2), y: 0, width: width.toFixed(2), height: 8})),
      make("span", {class: "number"}, step.ms < 0.05 ? "" : took(step.ms)));
  });
  return make("section", {},
    make("h3", {}, "Steps ", make("span", {class: "muted"}, `${took(request.ms)} in all`)),
    make("ol", {class: "steps"}, rows));
}

function facts(request) {
  const {token} = request;
  const age = token && token.age_s !== null ? `, ${span(token.age_s)} old` : "";
  const rows = [
    ["At", `${time(Date.parse(request.at))}, ${new Date(request.at).toLocaleDateString("en-CA")}`],
    ["Route", request.route ?? "none"],
    ["Came by", request.forward ? `the forward proxy, ${request.forward}` : null],
    ["Upstream", request.upstream],
    ["Token", token ? `${ORIGINS[token.source] ?? token.source}${age}` : "none was added"],
    ["Bodies", `${size(request.bytes_in)} sent, ${size(request.bytes_out)} answered`],
    ["Id", request.id],
  ];
  return make("section", {}, make("h3", {}, "Facts"),
    make("dl", {class: "facts"}, rows.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))));
}

function headers(title, pairs, isCut) {
  const rows = (pairs ?? []).map(([name, value]) => make("tr", {}, make("th", {scope: "row"}, name), make("td", {}, value)));
  return make("section", {}, make("h3", {}, title),
    rows.length ? make("table", {class: "headers"}, make("tbody", {}, rows)) : make("p", {class: "muted"}, "None."),
    isCut ? make("p", {class: "muted"}, "Only a part was kept: they are very large.") : null);
}

function body(title, kept) {
  if (!kept) return null;
  const text = kept.text ?? kept.base64;
  const told = `${size(kept.bytes)}${kept.text === undefined ? ", in Base64" : ""}${kept.cut ? ", of which this is the beginning" : ""}`;
  return make("section", {}, make("h3", {}, `${title} `, make("span", {class: "muted"}, told)),
    make("pre", {tabindex: "0", "aria-label": title}, make("code", {}, text)));
}
