// What the proxy did to a request, and why something was refused, in words.

import {took, span, size} from "./format.js";

/** The states of a route: what each is called, the shape of its sign, its tone, and what it means. */
export const STATES = {
  no_token_needed: {word: "No token needed", sign: "ring", tone: "calm", means: "Requests are forwarded as they are."},
  idle: {word: "Idle", sign: "ring", tone: "calm", means: "No token is held: the next request obtains one."},
  valid: {word: "Valid", sign: "tick", tone: "good", means: ""},
  renewing: {word: "Renewing", sign: "turn", tone: "calm", means: "A token is being obtained."},
  failing: {word: "Failing", sign: "triangle", tone: "bad", means: "No token can be had at the moment."},
  rejected: {word: "Rejected", sign: "cross", tone: "bad", means: "The token endpoint says no to the credential."},
  refused: {word: "Refused", sign: "diamond", tone: "warn", means: "The upstream says no to the token."},
  login_required: {word: "Login required", sign: "person", tone: "warn", means: "A person has to log in first."},
};

const UPSTREAM = {
  400: ["The upstream could not make sense of the request.", "Compare what was sent with the documentation of the API."],
  401: ["The upstream refused the credential.", "Renew the token; if it says no again, check the header and the scheme that the route adds."],
  403: ["The upstream knows the credential, but does not let it do this.", "Check its roles or scopes where they are managed."],
  404: ["The upstream has nothing at that URL.", "Compare the URL above with the documentation of the API: a part of the path may be missing, or be there twice."],
  405: ["The upstream does not take this method there.", "Its answer names those that it takes in Allow."],
  407: ["A proxy on the way wants to be logged in to.", "Check `http_proxy` of the route."],
  413: ["The body is larger than the upstream takes.", null],
  415: ["The upstream does not take a body of this kind.", "Check Content-Type."],
  429: ["The upstream was asked too often.", "Its answer may say in Retry-After when to ask again."],
};
const BAD_GATEWAY = new Set([502, 503, 504]);

const TOKENS = {fetched: "fetched a token", renewed: "renewed", waited: "waited for a token"};

/** Return how a token is added, in short: "Bearer", or the name of its header, parameter or cookie. */
export function scheme(route) {
  return (route?.injects ?? []).map(place).join(", ") || "a token";
}

function place({basic, header, query, cookie, value}) {
  if (basic) return "Basic";
  if (query) return `?${query}`;
  if (cookie) return `cookie ${cookie}`;
  const word = value.replace("{token}", "").trim();
  return header.toLowerCase() === "authorization" && word ? word : header;
}

/** Return what was done, one short phrase after the other, each with its tone: what `title` says in a line. */
export function story(request, route) {
  const said = [];
  const say = (text, tone = "") => said.push({text, tone});
  if (request.route) say(`matched ${request.route}`);
  const isLogin = request.steps.some(step => step.what === "stand_in");
  request.steps.forEach((step, index) => {
    const isFirst = !request.steps.slice(0, index).some(each => each.what === "token");
    if (step.what === "token" && step.detail === "held") say(held(request, route));
    else if (step.what === "token") {
      say(TOKENS[step.detail] ? `${TOKENS[step.detail]} in ${took(step.ms)}` : step.detail, TOKENS[step.detail] ? "" : "warn");
      if (isFirst && !isLogin && TOKENS[step.detail]) say(`added ${scheme(route)}`);
      if (step.detail === "renewed" && !isFirst && request.repeated) say("repeated");
    } else if (step.what === "upstream") {
      const status = Number(/^answered (\d+)$/.exec(step.detail)?.[1] ?? 0);
      say(status ? String(status) : step.detail, toneOf(status));
    } else if (step.what === "connect") say(step.detail === "new" ? `connected in ${took(step.ms)}` : `waited ${took(step.ms)} for a connection`);
    else if (step.what === "refused") say(`${request.status || ""} ${step.detail}`.trim(), "bad");
    else if (step.what === "preflight") say("preflight answered");
    else if (step.what === "placeholder") say("placeholder taken out");
    else if (step.what === "tunnelled") say(`tunnelled ${step.detail}`, "good");
    else if (step.what === "stand_in") say("login answered with a placeholder", "good");
  });
  return said;
}

function held(request, route) {
  const age = request.token?.age_s;
  // The age is that of the last token: of one that was replaced nothing is known any more.
  const known = age !== null && age !== undefined && !request.repeated;
  return `added ${scheme(route)}${known ? `, fetched ${span(age)} ago` : ""}`;
}

/** What a step is called beside its bar. */
export function stepName(step, route) {
  if (step.what === "token") return step.detail === "held" ? `Added ${scheme(route)}` : `Token: ${step.detail}`;
  if (step.what === "upstream") return `Upstream ${step.detail}`;
  if (step.what === "connect") return step.detail === "new" ? "Connected" : "Waited for a connection";
  if (step.what === "placeholder") return `Placeholder ${step.detail}`;
  if (step.what === "stand_in") return "Login answered by authproxy";
  if (step.what === "refused") return `Refused: ${step.detail}`;
  if (step.what === "answer") return /^\d+ bytes$/.test(step.detail) ? `Passed on ${size(Number.parseInt(step.detail))}` : step.detail;
  return `${step.what[0].toUpperCase()}${step.what.slice(1)}: ${step.detail}`;
}

export function toneOf(status) {
  if (status >= 500 || status === 0) return "bad";
  if (status >= 400) return "warn";
  return status >= 300 ? "calm" : "good";
}

/** The tone of a request: that of its status, but for a tunnel to which the 200 was all there was. */
export function tone(request) {
  return request.method === "CONNECT" && request.error && request.status < 400 ? "bad" : toneOf(request.status);
}

/** What a request was for: its path, or in forward mode its URL. */
export function target(request) {
  return request.origin ? new URL(request.origin).origin + request.path : request.path;
}

/** What to say of a request in a few words, in the list. */
export function brief(request) {
  if (request.error) return request.error.title ?? "Broken off";
  if (request.forward === "tunnelled") return `tunnelled, ${size(request.bytes_in)} sent, ${size(request.bytes_out)} received`;
  const parts = request.steps.filter(each => each.what === "token" && each.detail !== "held")
    .map(each => TOKENS[each.detail] ? `${TOKENS[each.detail]} in ${took(each.ms)}` : each.detail);
  const said = request.status >= 400 && request.route ? "answered by the upstream" : "";
  return [...parts, request.repeated ? "repeated" : "", said].filter(Boolean).join(", ");
}

/** Return why a request did not go well, and the way out: `{by, detail, hint}`, or null where it did. */
export function why(request, route, listeners) {
  const {error, status} = request;
  if (error) {
    const detail = error.detail ?? "The answer broke off.";
    return {by: error.status ? "authproxy" : status ? "broken" : "nobody", title: error.title, detail, hint: error.hint ?? null};
  }
  if (status === 401 && route?.state === "refused" && route.trouble) {
    return {by: "upstream", detail: route.trouble.detail, hint: route.trouble.hint};
  }
  if (status >= 400) {
    const failed = BAD_GATEWAY.has(status) ? "The upstream, or what stands in front of it, cannot serve this now." : "The upstream failed.";
    const other = status >= 500 ? [failed, "That is its own answer: ask again later, or look into its log."] : ["The upstream refused the request.", null];
    const [detail, hint] = UPSTREAM[status] ?? other;
    return {by: "upstream", detail, hint};
  }
  return status >= 300 && status !== 304 ? redirect(request, listeners) : null;
}

function redirect(request, listeners) {
  const [, to] = (request.response_headers ?? []).find(([name]) => name.toLowerCase() === "location") ?? [];
  if (!/^https?:\/\//i.test(to ?? "") || listeners.some(each => to.startsWith(each))) return null;
  return {
    by: "upstream", detail: `The upstream sends the client on to ${URL.canParse(to) ? new URL(to).host : to}.`,
    hint: "A client that follows leaves the proxy, and has no token there. If that is where the API is, make it the route's `upstream`.",
  };
}
