// A request as a command for a POSIX shell, to be sent through the proxy on this machine.

const MASK = "••••";
const INSTEAD = "REDACTED";
// What curl sees to by itself, and what holds for one connection only.
const LEFT_OUT = new Set([
  "connection", "content-length", "transfer-encoding", "expect", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "upgrade",
]);
// To a terminal into which a command is pasted they are keys: Ctrl-C ends the quotes, and the next line is run.
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f]/;

/** Quote a word for the shell, where it needs it. */
export function quoted(word) {
  return /^[A-Za-z0-9_@%+=:,.\/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * Return where programs of this machine reach the proxy: the arguments for it, and the URL to begin with. `own` is the
 * address of a route's own (null: where all routes are mounted); `listeners` are the URLs of all, those of routes' own
 * last; `authority` is a file of certificates, or undefined.
 */
export function reach({listeners, authority}, own = null) {
  const theOne = own && listeners.find(each => each === own || each.endsWith(`//${own}`));
  if (theOne) listeners = [theOne];
  const tcp = listeners.find(each => /^https?:/.test(each));
  const args = authority && tcp?.startsWith("https:") ? ["--cacert", authority] : [];
  if (tcp) return {args, base: tcp.replace(/\/\/(0\.0\.0\.0|\[::\])(?=:|$)/, `//${location.hostname}`)};
  const socket = listeners.find(each => each.includes("unix:"));
  if (socket) {
    const by = ["--unix-socket", socket.slice(socket.indexOf("unix:") + 5)];
    return authority ? {args: [...by, "--cacert", authority], base: "https://localhost"} : {args: by, base: "http://localhost"};
  }
  return {args: [], base: "http://localhost:8080"};
}

/** Return a command that calls a route, where the caller has what it takes. `reached` is as in `reach`. */
export function example(route, reached, keyHeader) {
  const {args, base} = reach(reached, route.listen);
  const words = ["curl", ...args.map(quoted)];
  if (keyHeader) words.push("-H", withKey(keyHeader));
  if (route.host && !route.listen) words.push("-H", quoted(`Host: ${route.host}`));
  const path = route.listen ? "/" : route.path ?? "/";
  return [...words, quoted(base + (path.endsWith("/") ? path : `${path}/`))].join(" ");
}

/**
 * Return the command for a request with its headers, and what a person has to know of it (null: nothing). `route` is its
 * own, at whose listener it may have come in; `reached` is as in `reach`.
 */
export function command(request, route, reached, keyHeader) {
  const {args, base} = request.forward && reached.forward
    ? byForward(request, reached.forward) : reach(reached, request.own_listener ? route?.listen : null);
  const parts = [["curl", ...args.map(quoted)], ...methodOf(request)];
  const notes = new Set();
  const url = base + (request.path.startsWith("/") || !base ? request.path : "/");
  const path = url.replaceAll(MASK, INSTEAD);
  if (path !== url) notes.add(`${INSTEAD} stands for what is not shown: put the value there`);
  if (/[[\]{}]/.test(path)) parts.push(["--globoff"]);
  if (/\/\.{1,2}(\/|\?|$)/.test(path)) parts.push(["--path-as-is"]);
  for (const [name, value] of request.request_headers ?? []) {
    const lower = name.toLowerCase();
    if (LEFT_OUT.has(lower) || (lower === "host" && url.startsWith(`${base.split("://")[0]}://${value}/`))) continue;
    if (lower === "accept-encoding") parts.push(["--compressed"]);
    else if (keyHeader && lower === keyHeader.toLowerCase()) parts.push(["-H", withKey(name)]);
    else {
      if (value.includes(MASK)) notes.add(`${INSTEAD} stands for what is not shown: put the value there`);
      parts.push(["-H", quoted(value ? `${name}: ${value.replaceAll(MASK, INSTEAD)}` : `${name};`)]);
    }
  }
  if (parts.some(([, header]) => header?.endsWith('$KEY"'))) notes.add("$KEY is to hold an access key");
  parts.push(...bodyOf(request, notes), [quoted(path)]);
  return {text: parts.map(words => words.join(" ")).join(" \\\n  "), note: [...notes].join("; ") || null};
}

/** Return how a request is sent through the forward proxy: by its own URL. */
function byForward(request, {listener, bundle_file: bundle}) {
  const args = ["-x", listener, ...(bundle ? ["--cacert", bundle] : [])];
  return {args, base: request.origin ? new URL(request.origin).origin : ""};
}

/** Return a header that holds the access key: a variable of the shell, as the key itself is not to be shown. */
function withKey(name) {
  return /^[\w-]+$/.test(name) ? `"${name}: $KEY"` : `${quoted(`${name}: `)}"$KEY"`;
}

function methodOf(request) {
  if (request.method === "GET") return request.bytes_in ? [["-X", "GET"]] : [];
  return [request.method === "HEAD" ? ["--head"] : ["-X", quoted(request.method)]];
}

function bodyOf(request, notes) {
  if (!request.bytes_in) return [];
  const has = name => (request.request_headers ?? []).some(([each]) => each.toLowerCase() === name);
  const untyped = has("content-type") ? [] : [["-H", "Content-Type:"]];  // else curl says it is a form
  const kept = request.request_body;
  const isWhole = kept?.text !== undefined && !kept.cut && !kept.text.includes(MASK);
  if (isWhole && !CONTROLS.test(kept.text)) return [...untyped, ["--data-raw", quoted(kept.text)]];
  notes.add(isWhole ? "its body holds control characters: put it into the file BODY" : "its body was not kept: put it into the file BODY");
  return [...untyped, ["--data-binary", "@BODY"]];
}
