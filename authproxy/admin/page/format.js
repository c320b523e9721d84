// Numbers and times as people read them.

const grouped = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});

export const count = number => grouped.format(number);

/** Of one: "1 request"; of more: "2 requests". */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const time = moment => clock.format(moment);

/** A length of time, in milliseconds: "0.4 ms", "37 ms", "1.24 s", "2 min 5 s". */
export function took(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${Math.max(0.1, Math.round(ms * 10) / 10)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(2)} s` : span(ms / 1000);
}

/** A longer one, in seconds, in its two largest units: "48 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor(whole / 60) % 60, "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor(whole / 3600) % 24, "h");
}

function two(large, unit, small, smaller) {
  return small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
}

/** What is left of a time, in seconds: "0:48", "4:05", "1:04:05"; from a day on as `span`. */
export function countdown(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole >= 86_400) return span(whole);
  const pad = number => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** How long ago something was, in seconds. */
export function ago(seconds) {
  if (seconds < 1.5) return "just now";
  return `${seconds < 120 ? span(seconds) : span(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

/** A size, in bytes. */
export function size(bytes) {
  if (bytes < 1024) return counted(bytes, "byte");
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let amount = bytes / 1024;
  while (amount >= 1024 && units.length > 1) {
    amount /= 1024;
    units.shift();
  }
  return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)} ${units[0]}`;
}

/** A number that is no count: three digits or so. */
export function rough(number) {
  if (number === 0) return "0";
  if (number < 0.1) return "<0.1";
  return number < 10 ? number.toFixed(1).replace(/\.0$/, "") : count(Math.round(number));
}
