// The last five minutes in steps of five seconds: what the charts show.
//
//   /api/status, every 2 s ─▶ differences ─▶ cover(): exact, however many requests there are
//   requests that are told ─▶ sample(): how long they took, as far as they are told
//   /api/requests, once    ─▶ backfill(): what was before the page was opened

export const STEP = 5;  // seconds
export const STEPS = 60;
const MAX_SAMPLES = 250;  // durations of one step
const NAMES = ["requests", "errors", "retries"];

export class Series {
  #steps = new Map();
  #totals = null;
  #until = 0;  // up to when all is counted

  /** Count what is remembered of requests since `from`, as far as it was not covered; moments are in seconds. */
  backfill(requests, since, to) {
    const from = Math.max(since, this.#until);
    this.#spread(from, to, {requests: 0, errors: 0, retries: 0});
    for (const each of requests) {
      const at = Date.parse(each.at) / 1000;
      if (at < from || at > to) continue;
      const step = this.#at(Math.floor(at / STEP));
      step.requests += 1;
      step.errors += each.status >= 500 ? 1 : 0;
      step.retries += each.repeated ? 1 : 0;
      this.sample(each);
    }
  }

  /** Take in the totals of all routes as they are now. */
  cover(routes, now) {
    const totals = Object.fromEntries(NAMES.map(name => [name, routes.reduce((sum, each) => sum + each[name], 0)]));
    const before = this.#totals;
    this.#totals = {...totals, now};
    if (before === null || now <= before.now || now - before.now > STEP * STEPS) return;
    const more = Object.fromEntries(NAMES.map(name => [name, totals[name] - before[name]]));
    if (NAMES.every(name => more[name] >= 0)) this.#spread(before.now, now, more);  // else it was started anew
    this.#drop(now);
  }

  /** Leave what is unknown between now and the next totals out. */
  pause() {
    this.#until = this.#totals?.now ?? this.#until;
    this.#totals = null;
  }

  /** Take in how long a request took; a tunnel lasts as long as somebody uses it. */
  sample(request) {
    if (request.method === "CONNECT") return;
    const step = this.#at(Math.floor((Date.parse(request.at) + request.ms) / 1000 / STEP));
    if (step.ms.length < MAX_SAMPLES) step.ms.push(request.ms);
  }

  /** Return the steps up to now, oldest first: rates a second and durations, null where nothing is known. */
  steps(now) {
    const last = Math.floor(now / STEP);
    return Array.from({length: STEPS}, (_, index) => {
      const number = last - STEPS + 1 + index, step = this.#steps.get(number);
      const ms = step?.ms.toSorted((one, other) => one - other) ?? [];
      const at = share => ms.length ? ms[Math.ceil(ms.length * share) - 1] : null;
      const known = step && step.covered > 0;
      return {
        at: number * STEP, p50: at(0.5), p99: at(0.99),
        requests: known ? step.requests : null, errors: known ? step.errors : null, retries: known ? step.retries : null,
        rate: known ? step.requests / Math.max(1, step.covered) : null,
      };
    });
  }

  #at(number) {
    if (!this.#steps.has(number)) this.#steps.set(number, {covered: 0, requests: 0, errors: 0, retries: 0, ms: []});
    return this.#steps.get(number);
  }

  #spread(from, to, more) {
    for (let number = Math.floor(from / STEP); number * STEP < to; number += 1) {
      const part = Math.min(to, (number + 1) * STEP) - Math.max(from, number * STEP), step = this.#at(number);
      step.covered += part;
      for (const name of NAMES) step[name] += more[name] * part / (to - from);
    }
  }

  #drop(now) {
    const oldest = Math.floor(now / STEP) - STEPS;
    for (const number of this.#steps.keys()) if (number < oldest) this.#steps.delete(number);
  }
}
