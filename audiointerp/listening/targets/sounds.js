// Elements of the page: helpers that create elements, the card of a sound, and its scales.

const $ = (id) => document.getElementById(id);

// A word of the page in its language; values fill in its braces.
function word(key, values = {}) {
  return Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`{${name}}`, value), study.words[key]);
}

const OPINIONS = ["bad", "poor", "fair", "good", "excellent"].map((key) => word(key));

// make("p", {class: "x", onclick: f}, "text", other) -> element. Text is never read as HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function makeSvg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function icon(name) {
  return makeSvg("svg", { class: `icon icon-${name}`, "aria-hidden": "true" }, makeSvg("use", { href: `#icon-${name}` }));
}

function say(text) {
  $("live").textContent = "";
  setTimeout(() => ($("live").textContent = text), 30); // so that screen readers read equal texts twice
}

// A card with a play button. slot: the digit key that plays it; key: what its ids end with, unique on the page; name: text on the card; hint: text below the name until
// the sound was heard. Returns the sound: {slot, name, element, player, heard, memory}.
function soundCard({ id, slot, key = slot, name, hint, memory, scale, changed }) {
  const status = make("span", { class: "status", id: `status-${key}` });
  const ring = makeSvg("circle", { class: "ring", cx: 50, cy: 50, r: 47, pathLength: 100 });
  const rail = makeSvg("circle", { class: "rail", cx: 50, cy: 50, r: 47 });
  const button = make(
    "button",
    { type: "button", class: "play", "aria-describedby": `status-${key}`, "aria-keyshortcuts": slot },
    makeSvg("svg", { class: "rings", viewBox: "0 0 100 100", "aria-hidden": "true" }, rail, ring),
    icon("play"), icon("stop"),
  );
  const element = make(
    "div", { class: "sound card", role: "group", tabindex: -1, "aria-labelledby": `name-${key}`, "data-slot": slot },
    button,
    make("div", { class: "called" }, make("span", { class: "name", id: `name-${key}` }, name), status),
    scale || null,
  );
  const sound = { slot, name, element, memory, get heard() { return player.heard; }, get done() { return player.done; } };
  const draw = (player, event) => {
    element.classList.toggle("playing", player.active);
    element.classList.toggle("done", player.done);
    ring.style.strokeDashoffset = String(100 * (1 - player.place));
    const percent = Math.floor(100 * player.heard);
    const text = event === "failed" ? word("cannot_play") : player.active ? word("playing") : player.done ? word("heard")
      : percent ? word("percent_heard", { percent }) : hint;
    const label = word(player.active ? "stop" : "play", { name });
    if (status.textContent !== text) status.replaceChildren(...(player.done && !player.active ? [icon("check")] : []), text);
    if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
    if (event) changed(sound, event);
  };
  const player = new Player(id, memory, draw);
  sound.player = player;
  button.addEventListener("click", () => player.toggle());
  element.append(player.audio);
  draw(player, null);
  return sound;
}

// Radio buttons that look like large keys. options: [[value, big, small]]; chosen: a value or undefined.
function keyScale({ legend, name, options, chosen, wide, picked }) {
  const keys = options.map(([value, big, small]) => {
    const input = make("input", { type: "radio", name, value, checked: value === chosen, onchange: () => picked(value) });
    const face = make("span", { class: "face" }, make("b", {}, big), small ? make("small", {}, small) : null);
    return make("label", {}, input, face);
  });
  return make("fieldset", { class: wide ? "choice card" : "scale" },
    make("legend", { class: wide ? "" : "hidden" }, legend), make("div", { class: wide ? "options" : "five" }, ...keys));
}

// 0 to 100, without a value until it is moved or clicked, so that no answer is a default.
function slider({ name, slot, value, picked }) {
  const output = make("output", { for: `slider-${slot}`, class: "value" });
  const input = make("input", {
    type: "range", id: `slider-${slot}`, min: 0, max: 100, step: 1, "aria-label": word("rating_of", { name }),
  });
  const draw = (rated) => {
    input.classList.toggle("blank", !rated);
    output.textContent = rated ? input.value : "–";
    input.setAttribute("aria-valuetext", rated ? word("of_100", { n: input.value }) : word("not_rated"));
    input.style.setProperty("--at", `${rated ? input.value : 0}%`);
  };
  const pick = () => {
    draw(true);
    picked(Number(input.value));
  };
  input.value = value === undefined ? 50 : value;
  draw(value !== undefined);
  input.addEventListener("input", pick);
  input.addEventListener("click", pick); // a click exactly in the middle moves nothing, but is an answer
  const words = OPINIONS.map((word) => make("span", {}, word));
  const element = make("div", { class: "slide" },
    make("div", { class: "line" }, input, make("div", { class: "words", "aria-hidden": "true" }, ...words)), output);
  return { element, set(rating) { input.value = rating; pick(); input.focus(); } };
}
