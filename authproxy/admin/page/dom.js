// Elements, made and changed. What comes from the proxy only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element of that id. */
export const byId = id => document.getElementById(id);

/** Return an element with attributes (none where the value is null or false) and children, strings being text. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else setAttribute(element, name, value);
  }
  element.append(...children.flat().filter(each => each !== null && each !== undefined && each !== ""));
  return element;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Set the text, if it is another one: what stays the same is not laid out again, nor read out. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a text in which what stands in backquotes is code. */
export function setProse(element, text) {
  if (element.dataset.prose === text) return;
  element.dataset.prose = text;
  element.replaceChildren(...prose(text));
}

/** Return the same as nodes. */
export function prose(text) {
  return text.split(/`([^`]+)`/).map((part, index) => index % 2 ? make("code", {}, part) : part);
}

/** Show or hide; where the focus would be lost, `instead` gets it. */
export function show(element, isShown, instead = null) {
  if (element.hidden === !isShown) return;
  const had = !isShown && element.contains(document.activeElement);
  element.hidden = !isShown;
  if (had) instead?.focus();
}

/** Have `parent` hold `elements` in that order, moving none that is in place: a move takes the focus away. */
export function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const each of [...parent.children]) if (!wanted.has(each)) each.remove();
  let next = parent.firstElementChild;
  for (const each of elements) {
    if (each === next) next = next.nextElementSibling;
    else parent.insertBefore(each, next);
  }
}
