// The admin API, asked. The access key goes in its header, and is kept by this tab alone.

const STORED = "authproxy-key";
const SECONDS = 1000;
const PATIENCE = 15 * SECONDS;
const LONG_PATIENCE = 90 * SECONDS;  // a renewal waits for the token endpoint
const RATE = 20;  // requests a second that are enough to be looked at
const SILENCE = 40 * SECONDS;  // the stream says something every 15 s

let header = document.querySelector('meta[name="key-header"]').content;

/** By how many seconds the proxy's clock is ahead of this one, where that is worth mentioning. */
export const clock = {ahead: 0};

/** What the proxy answered in place of what was asked for (RFC 9457). */
export class Problem extends Error {
  constructor(status, told) {
    super(told.detail ?? `The admin listener answered ${status}.`);
    this.status = status;
    this.hint = told.hint ?? null;
    this.title = told.title ?? "";
    this.faults = told.faults ?? null;
  }
}

/** Nobody answered. */
export class Unreachable extends Error {}

export const key = {
  /** Whether there is one. */
  get isSet() { return Boolean(sessionStorage.getItem(STORED)); },
  set(text) { sessionStorage.setItem(STORED, text); },
  forget() { sessionStorage.removeItem(STORED); },
};

/** Learn anew in which header the key goes: a reload of the configuration may have changed it. */
export async function learnHeader() {
  const page = await (await send("/", {keyless: true})).text();
  const written = /<meta name="key-header" content="([^"]*)">/.exec(page)?.[1] ?? "";
  header = written.replaceAll("&#x27;", "'").replaceAll("&amp;", "&");  // a name has no other that HTML escapes
}

export const keyHeader = () => header;

/** Ask for a document; null when the answer has none. Throws `Problem` and `Unreachable`. */
export async function ask(path, method = "GET") {
  const reply = await send(path, {method, signal: AbortSignal.timeout(method === "GET" ? PATIENCE : LONG_PATIENCE)});
  if (reply.status === 204) return null;
  try {
    return await reply.json();
  } catch {
    throw new Unreachable("the answer broke off");
  }
}

/** Read the live stream until it ends; `opened` is called once it has begun, `told` with each event. */
export async function watch({signal, opened, told}) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE);
  try {
    const reply = await send(`/api/requests/stream?rate=${RATE}`, {signal: AbortSignal.any([signal, silence.signal])});
    opened();
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let came = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE);
      const events = (came + value).split("\n\n");
      came = events.pop();
      for (const each of events) tell(each, told);
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Unreachable(error.message);
  } finally {
    clearTimeout(timer);
  }
}

function tell(event, told) {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
  if (name) told(name, JSON.parse(data));
}

async function send(path, {method = "GET", signal = null, keyless = false} = {}) {
  const sent = keyless ? null : sessionStorage.getItem(STORED);
  let reply;
  try {
    reply = await fetch(path, {
      method, signal, headers: sent && header ? {[header]: bytesOf(sent)} : {},
      cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch (error) {
    throw new Unreachable(error.message);
  }
  const ahead = (Date.parse(reply.headers.get("Date")) + 500 - Date.now()) / SECONDS;  // it names whole seconds
  clock.ahead = Math.abs(ahead) > 3 ? ahead : 0;
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
  return reply;
}

/** Return a text as `fetch` wants headers: a character for each byte, here of UTF-8. */
function bytesOf(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
