// The connection to the proxy: begun, lost, begun again.
//
//   run() ─▶ the stream is open ─▶ start() ─▶ told() with each event, and poll() every 2 s
//     ▲                                           │
//     └── a wait that grows, or the key, or the page is looked at again ◀── it ended
//
// A page that nobody looks at asks for nothing.

import {Problem, Unreachable, key, learnHeader, watch} from "./api.js";
import {byId, setText, show} from "./dom.js";

const POLL = 2000;  // milliseconds between two looks at the counts
const FIRST_WAIT = 500, LONGEST_WAIT = 15_000;  // milliseconds between two tries

export class Connection {
  #on;
  #reason = "";
  #until = null;  // when it is tried again
  #wakeUp = () => {};
  is = "connecting";

  /**
   * `start` is called when the stream has begun, `poll` now and then, `told` with each event, `paused` when all that
   * ends, `changed` with an error or null when `is` may be another one: `connecting`, `live`, `paused`, `locked`,
   * `gone` (nobody answers) or `refused` (the proxy says no).
   */
  constructor(on) { this.#on = on; }

  async run() {
    for (let wait = FIRST_WAIT; ;) {
      await this.#looked();
      let error = null;
      try {
        await this.#session();
      } catch (thrown) {
        error = thrown;
        if (!(error instanceof Problem || error instanceof Unreachable)) reportError(error);  // a fault of this page
      }
      if (document.hidden) continue;
      if (error instanceof Problem && error.status === 401) {
        await this.#unlocked();
        continue;
      }
      wait = this.is === "live" ? FIRST_WAIT : Math.min(LONGEST_WAIT, wait * 2);
      if (error instanceof Problem && error.status === 503) await this.#on.start().catch(() => {});  // others watch
      this.#become(error instanceof Problem ? "refused" : "gone", error);
      await this.#wait(wait);
    }
  }

  /** Try at once. */
  tryNow() { this.#wakeUp(); }

  /** Say how it stands. */
  words() {
    const left = this.#until === null ? 0 : Math.max(0, Math.ceil((this.#until - Date.now()) / 1000));
    const again = left ? `: next try in ${left} s` : "";
    return {
      connecting: "Connecting…", live: "Live", paused: "Paused while nobody looks", locked: "Locked",
      gone: `The proxy is gone${again}`, refused: `No live data, ${this.#reason}${again}`,
    }[this.is];
  }

  #become(is, error = null) {
    this.is = is;
    this.#reason = error?.message ?? "";
    this.#until = null;
    this.#on.changed(error);
  }

  async #wait(milliseconds) {
    const jittered = milliseconds * (0.8 + 0.4 * Math.random());
    this.#until = Date.now() + jittered;
    this.#on.changed(null);
    await new Promise(end => {
      this.#wakeUp = end;
      setTimeout(end, jittered);
    });
    this.#until = null;
  }

  /** Be connected, until the stream ends or nobody looks. Throws `Problem` and `Unreachable`. */
  async #session() {
    const stop = new AbortController();
    const stopIfHidden = () => { if (document.hidden) stop.abort(); };
    document.addEventListener("visibilitychange", stopIfHidden);
    let failed = null;
    const fail = error => {
      failed ??= error;
      stop.abort();
    };
    const begin = async () => {
      await this.#on.start();
      if (stop.signal.aborted) return;
      this.#become("live");
      await this.#poll(stop.signal);
    };
    try {
      await watch({signal: stop.signal, opened: () => begin().catch(fail), told: this.#on.told});
      throw failed ?? new Unreachable("the stream has ended");
    } catch (error) {
      if (!document.hidden) throw failed ?? error;
    } finally {
      document.removeEventListener("visibilitychange", stopIfHidden);
      stop.abort();
      this.#on.paused();
    }
  }

  async #poll(signal) {
    for (;;) {
      await new Promise(end => {
        const timer = setTimeout(end, POLL);
        signal.addEventListener("abort", () => { clearTimeout(timer); end(); }, {once: true});
      });
      if (signal.aborted) return;
      await this.#on.poll();
    }
  }

  /** Wait until somebody looks. */
  async #looked() {
    while (document.hidden) {
      this.#become("paused");
      await new Promise(end => document.addEventListener("visibilitychange", end, {once: true}));
    }
  }

  /** Have a person enter the key. */
  async #unlocked() {
    const wasWrong = key.isSet;
    key.forget();
    await learnHeader().catch(() => {});
    this.#become("locked");
    const input = byId("lock-key"), form = byId("lock-form");
    show(byId("lock"), true);
    setText(byId("lock-fault"), wasWrong ? "That key is not valid." : "");
    input.focus();
    await new Promise(end => form.addEventListener("submit", event => {
      event.preventDefault();
      end();
    }, {once: true}));
    key.set(input.value);
    input.value = "";
    this.#become("connecting");
  }
}
