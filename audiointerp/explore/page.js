// The page of `audiointerp explore`. The server computes; this file asks it, shows and plays.
import { Player, durationOf, monoWav, readWav, writeWav } from "./player.js";
import { Spectrogram } from "./spectrogram.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 10, LONGEST_RECORDING = 120; // labels; seconds
const DECODED_HERE = /\.(m4a|m4b|mp4|aac|webm|weba|mka|mkv|mov|3gp)$/i; // formats that the server does not read
const state = {
  labels: [], methods: [], sound: null, part: 0, view: null, before: [], after: null, label: null, made: [], shown: null,
  regions: [], brush: null, job: 0,
};
let stopJob = null, limits = {};

class Refused extends Error {}

// Asks the server; an error is a sentence to show.
async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the server does not answer; is `audiointerp explore` still running in the terminal?");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  try {
    throw new Refused(JSON.parse(text).error);
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(text.slice(0, 300) || `error ${answer.status}`);
  }
}
const json = async (address, options) => (await ask(address, options)).json();
const post = (address, value, signal) => json(address, { method: "POST", body: JSON.stringify(value), signal });
const bytes = async (address) => new Uint8Array(await (await ask(address)).arrayBuffer());
const wav = async (address) => readWav(await (await ask(address)).arrayBuffer());

// Runs what a person started; an error appears where it was started.
async function show(place, work) {
  $(place).hidden = true;
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    $(place).textContent = error instanceof Refused ? error.message : `this page failed (${error.message}); load it again`;
    $(place).hidden = false;
    if (!(error instanceof Refused)) console.error(error);
  }
}

const player = new Player(() => { $("play").textContent = player.playing ? "Pause" : "Play"; });
const plot = new Spectrogram($("back"), $("front"));
const path = () => `sounds/${state.sound.id}/${state.part}`;
const percent = (value) => (value >= 0.9995 ? "100 %" : value < 0.0005 ? "0 %" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// ---- opening a sound

function checkSize(size, name) {
  if (size > limits.most_bytes) {
    throw new Refused(`${name}: has ${Math.round(size / 2 ** 20)} MB; open a file of at most ${limits.most_bytes / 2 ** 20} MB`);
  }
}

async function decodedHere(file, name) {
  const seconds = await durationOf(file);
  if (Number.isFinite(seconds) && seconds > limits.most_seconds) {
    throw new Refused(`${name}: lasts ${Math.round(seconds / 60)} minutes; open at most ${limits.most_seconds / 60}`);
  }
  const data = await file.arrayBuffer(), context = new OfflineAudioContext(1, 1, limits.rate);
  const buffer = await context.decodeAudioData(data).catch((error) => {
    throw new Refused(`${name}: this browser cannot decode it (${error.message}); convert it to WAV, FLAC, OGG or MP3`);
  });
  return new Blob([monoWav(buffer)]);
}

async function openFile(file, name) {
  checkSize(file.size, name);
  $("loading").textContent = `Opening ${name} …`;
  try {
    if (DECODED_HERE.test(name)) {
      file = await decodedHere(file, name);
      checkSize(file.size, `${name}, decoded,`);
    }
    const sound = await json(`sounds?name=${encodeURIComponent(name)}`, { method: "POST", body: file });
    await openSound(sound);
  } finally {
    $("loading").textContent = "";
  }
}

async function openSound(sound) {
  await openPart(sound, 0);
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// Shows a part of a sound, once all of it is there; until then, and after an error, the one before stays.
async function openPart(sound, part) {
  stopJob?.();
  const job = ++state.job, base = `sounds/${sound.id}/${part}`;
  const view = await json(base);
  const [levels, heard] = await Promise.all([bytes(`${base}/spectrogram`), wav(`${base}/sound.wav`)]);
  if (job !== state.job) return; // another part was opened meanwhile
  player.clear();
  Object.assign(state, { sound, part, view, before: view.probabilities, after: null, made: [], shown: null, regions: [], brush: null, label: null });
  $("workspace").hidden = false;
  $("sound-title").textContent = sound.name;
  $("part").replaceChildren(...sound.starts.map((start, i) => element("option", {
    value: i, textContent: `${i + 1} of ${sound.starts.length}, from ${clock(start)}`, selected: i === part,
  })));
  $("part-label").hidden = sound.starts.length === 1;
  Object.assign(plot, { view, levels, mask: null, regions: [], drawn: null });
  player.add("sound", heard);
  hear("sound");
  $("high").max = $("low").max = view.rate / 2;
  $("end").max = $("start").max = view.seconds;
  $("end").value = Math.min(1, view.seconds).toFixed(2);
  for (const place of ["made-error", "save-error", "brush-error", "saved"]) $(place).hidden = true;
  $("find").value = "";
  $("front").setAttribute("aria-label", `Spectrogram of ${sound.name}: 0 to ${view.rate / 2} Hz, 0 to ${view.seconds.toFixed(1)} s. Regions can also be given by numbers below.`);
  plot.draw();
  showAll();
}

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  $("file").value = "";
  if (file) show("open-error", () => openFile(file, file.name));
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer?.files ?? [];
  if (file) show("open-error", () => openFile(file, file.name));
});
$("part").addEventListener("change", () => show("open-error", async () => {
  try {
    await openPart(state.sound, Number($("part").value));
  } finally {
    $("part").value = state.part;
  }
}));

// ---- recording

let finishRecording = null;
$("record").addEventListener("click", () => {
  if (finishRecording) return finishRecording();
  return show("open-error", recordSound);
});

async function recordSound() {
  let stream;
  try {
    // What cleans up speech would remove the very sounds that are to be explained.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Refused(`the microphone cannot be used (${error.message}); allow it in the browser, or choose a file`);
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule("record.js");
  const input = context.createMediaStreamSource(stream), worklet = new AudioWorkletNode(context, "record");
  const pieces = [];
  let length = 0;
  const ended = new Promise((resolve) => { finishRecording = resolve; });
  worklet.port.onmessage = ({ data }) => {
    pieces.push(data);
    length += data.length;
    const seconds = length / context.sampleRate;
    $("record").textContent = `Stop recording (${seconds.toFixed(0)} s)`;
    if (seconds >= LONGEST_RECORDING) finishRecording?.();
  };
  input.connect(worklet);
  $("record").textContent = "Stop recording";
  await ended;
  worklet.port.onmessage = null; // pieces on their way would change the button's text again
  finishRecording = null;
  $("record").textContent = "Record";
  stream.getTracks().forEach((track) => track.stop());
  const rate = context.sampleRate;
  await context.close();
  if (!length) throw new Refused("the microphone gave no sound; choose another one in the browser, or a file");
  const samples = new Float32Array(length);
  pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
  await openFile(new Blob([writeWav(samples, rate)]), "recording.wav");
}

// ---- labels and methods

function showAll() {
  showLabels();
  showMade();
  showRegions();
  showCost();
}

function order() {
  const text = $("find").value.trim().toLowerCase();
  const found = state.labels.map((_, i) => i).filter((i) => state.labels[i].toLowerCase().includes(text));
  found.sort((a, b) => state.before[b] - state.before[a]);
  if (text) return found.slice(0, 3 * SHOWN);
  // What the brush made likely is shown, too.
  const first = found.slice(0, SHOWN);
  if (state.label !== null && !first.includes(state.label)) first.push(state.label);
  const now = state.after ? [...found].sort((a, b) => state.after[b] - state.after[a]).slice(0, 3) : [];
  return [...first, ...now.filter((i) => !first.includes(i))];
}

function showLabels() {
  const focused = document.activeElement?.dataset?.label;
  $("legend").hidden = !state.after;
  $("labels").replaceChildren(...order().map((i) => {
    const before = state.before[i], after = state.after?.[i];
    const bars = element("span", { className: "bars" }, bar(before));
    let spoken = `${state.labels[i]}, ${percent(before)}`;
    const value = element("i", {}, percent(before));
    if (after !== undefined) {
      bars.append(bar(after));
      const change = after - before, way = Math.abs(change) < 0.005 ? "" : change > 0 ? "up" : "down";
      value.append(" → ", element("span", { className: way }, percent(after)));
      spoken += `, ${percent(after)} after brushing`;
    }
    const button = element("button", { type: "button", className: "label" }, element("b", {}, state.labels[i]), value, bars);
    button.dataset.label = i;
    button.setAttribute("aria-pressed", String(i === state.label));
    button.setAttribute("aria-label", `${spoken}: explain`);
    return element("li", {}, button);
  }));
  if (focused !== undefined) document.querySelector(`[data-label="${focused}"]`)?.focus();
}

function bar(value) {
  const made = element("em");
  made.style.width = `${100 * value}%`;
  return made;
}

$("find").addEventListener("input", showLabels);
$("labels").addEventListener("click", (event) => {
  const button = event.target.closest("[data-label]");
  if (button) show("made-error", () => explain(Number(button.dataset.label)));
});

function chosenMethods() {
  return [...document.querySelectorAll("#by input:checked")].map((each) => each.value);
}

const took = new Map(); // method -> seconds of its last explanation
// Seconds that a method will take: as long as it last took, before that by its number of passes.
const cost = (method) => took.get(method.name) ?? method.passes * (state.view?.pass_seconds ?? 0);
const about = (seconds) => (seconds < 1.5 ? "about a second" : seconds < 100 ? `about ${Math.round(seconds)} s` : `about ${Math.round(seconds / 60)} minutes`);

function showCost() {
  const chosen = chosenMethods(), seconds = state.methods.filter((each) => chosen.includes(each.name)).reduce((sum, each) => sum + cost(each), 0);
  $("cost").textContent = chosen.length ? `A click takes ${about(seconds)}.` : "Choose a method.";
}
$("by").addEventListener("change", showCost);

async function explain(label) {
  stopJob?.();
  const job = ++state.job, base = path(), control = new AbortController();
  state.label = label;
  showLabels();
  if (state.regions.length) void show("brush-error", () => askBrush(false));
  const methods = chosenMethods();
  if (!methods.length) throw new Refused("choose at least one method first");
  stopJob = () => { control.abort(); stopJob = null; state.job += 1; $("busy").hidden = true; };
  try {
    for (const method of methods) {
      const known = state.made.find((each) => each.method === method && each.label === label);
      if (known) { await choose(known); continue; }
      const seconds = cost(state.methods.find((each) => each.name === method));
      $("busy-text").textContent = `${method} explains ${state.labels[label]}, ${about(seconds)} …`;
      $("busy").hidden = false;
      const made = await post(`${base}/explain`, { method, label }, control.signal);
      if (job !== state.job) return;
      await receive(made);
      state.made.push(made);
      took.set(method, made.seconds);
      showCost();
      await choose(made);
    }
  } finally {
    if (job === state.job) { $("busy").hidden = true; stopJob = null; }
  }
}
$("stop").addEventListener("click", () => stopJob?.());

// Fetches the sounds and the mask of an explanation.
async function receive(made) {
  const [kept, rest, mask] = await Promise.all([
    wav(`made/${made.key}/interpretation.wav`), wav(`made/${made.key}/residual.wav`), made.mask ? bytes(`made/${made.key}/mask`) : null,
  ]);
  made.picture = mask;
  player.add(`${made.key} interpretation`, kept);
  player.add(`${made.key} residual`, rest);
}

async function choose(made, role = "interpretation") {
  state.shown = made;
  state.label = made.label;
  showLabels();
  showMade();
  hear(role);
  drawMask();
}

function drawMask() {
  plot.mask = $("overlay").checked && state.shown ? state.shown.picture : null;
  plot.draw();
}
$("overlay").addEventListener("change", drawMask);

function showMade() {
  $("made-none").hidden = state.made.length > 0;
  $("save").disabled = !state.made.length && !state.brush;
  $("made").replaceChildren(...state.made.map((made) => {
    const label = state.labels[made.label];
    const item = element("li", { className: made === state.shown ? "shown" : "" },
      element("div", {}, element("b", {}, label), ` by ${made.method}`),
      element("div", { className: "small" }, `${percent(made.probability)} in the sound, ${percent(made.alone)} on this part alone, ${percent(made.without)} on the rest${made.mask ? "" : "; no mask to show"}`));
    const row = element("div", { className: "row" });
    for (const [role, text] of [["interpretation", "Hear it"], ["residual", "Hear the rest"]]) {
      const button = element("button", { type: "button" }, text);
      button.setAttribute("aria-label", `${text}: ${label} by ${made.method}`);
      button.setAttribute("aria-pressed", String(made === state.shown && wanted() === role));
      button.addEventListener("click", async () => { await choose(made, role); await player.play(); });
      row.append(button);
    }
    const link = element("a", { href: `made/${made.key}/interpretation.wav`, className: "small", textContent: "WAV" });
    link.download = `${made.method} ${label}.wav`;
    link.setAttribute("aria-label", `WAV of ${label} by ${made.method}`);
    item.append(element("div", { className: "row" }, ...row.childNodes, link));
    return item;
  }));
}

// ---- hearing

const wanted = () => document.querySelector("[name=hear]:checked").value;

function trackOf(role) {
  if (role === "sound") return "sound";
  if (role === "brush") return state.brush && "brush";
  return state.shown && `${state.shown.key} ${role}`;
}

function hear(role) {
  for (const input of document.querySelectorAll("[name=hear]")) {
    input.disabled = !trackOf(input.value);
    if (input.value === role && !input.disabled) input.checked = true;
  }
  player.hear(trackOf(wanted()) ?? "sound");
  for (const [i, item] of [...$("made").children].entries()) {
    const [kept, rest] = item.querySelectorAll("button"), shown = state.made[i] === state.shown;
    kept.setAttribute("aria-pressed", String(shown && wanted() === "interpretation"));
    rest.setAttribute("aria-pressed", String(shown && wanted() === "residual"));
  }
}
$("hear").addEventListener("change", (event) => hear(event.target.value));
$("play").addEventListener("click", toggle);

function toggle() { return player.playing ? player.stop() : player.play(); }
$("loop").addEventListener("change", async () => {
  const position = player.position;
  player.repeat = $("loop").checked;
  await player.seek(position);
});
$("level").addEventListener("change", () => { player.full = $("level").checked; hear(wanted()); });
$("position").addEventListener("input", () => player.seek((Number($("position").value) / 1000) * player.duration));
$("position").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  player.seek(player.position + step);
});

document.addEventListener("keydown", (event) => {
  if (!$("keys").checked || $("workspace").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=number], select, textarea");
  if (typing || (event.key === " " && event.target.matches("button, summary, a, input"))) return;
  const role = { 1: "sound", 2: "interpretation", 3: "residual", 4: "brush" }[event.key];
  const step = { n: 1, p: -1 }[event.key.toLowerCase()];
  if (event.key === " ") { event.preventDefault(); toggle(); }
  else if (role) hear(role);
  else if (step && state.made.length) {
    const at = state.made.indexOf(state.shown) + step;
    choose(state.made[(at + state.made.length) % state.made.length], wanted() === "residual" ? "residual" : "interpretation");
  }
});

let lastShown = "";
function tick() {
  player.tick();
  if (state.view) {
    const position = player.position, text = `${position.toFixed(2)} / ${state.view.seconds.toFixed(2)} s`;
    if (text !== lastShown) {
      lastShown = text;
      $("clock").textContent = text;
      $("position").value = Math.round((1000 * position) / player.duration);
      $("position").setAttribute("aria-valuetext", `${position.toFixed(1)} of ${state.view.seconds.toFixed(1)} s`);
      plot.over(state.regions, plot.drawn, position);
    }
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

// ---- brushing

const tool = () => document.querySelector("[name=tool]:checked").value;
const place = (event) => {
  const box = $("front").getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
let from = null;
$("tools").addEventListener("change", showTool);
function showTool() { $("front").classList.toggle("draws", tool() !== "seek"); }
// A finger scrolls the page unless it was told to draw.
if (matchMedia("(pointer: coarse)").matches) document.querySelector("[name=tool][value=seek]").checked = true;
showTool();

function rectangle([x, y]) {
  const seconds = [from[0], x].map((each) => plot.seconds(each)).sort((a, b) => a - b);
  const hertz = [from[1], y].map((each) => plot.frequency(each)).sort((a, b) => a - b);
  return { low_hz: hertz[0], high_hz: hertz[1], start_s: seconds[0], end_s: seconds[1], keep: tool() === "keep" };
}
const far = ([x, y]) => Math.abs(x - from[0]) > 4 && Math.abs(y - from[1]) > 4;

$("front").addEventListener("pointerdown", (event) => {
  if (!state.view || event.button) return;
  from = place(event);
  $("front").setPointerCapture(event.pointerId);
  if (tool() === "seek") player.seek(plot.seconds(from[0]));
});
$("front").addEventListener("pointermove", (event) => {
  if (!from) return;
  if (tool() === "seek") player.seek(plot.seconds(place(event)[0]));
  else if (far(place(event))) plot.over(state.regions, rectangle(place(event)), player.position);
});
$("front").addEventListener("pointerup", (event) => {
  if (!from) return;
  const end = place(event), drawn = tool() !== "seek" && far(end) ? rectangle(end) : null;
  if (!drawn) player.seek(plot.seconds(end[0]));
  from = null;
  plot.over(state.regions, null, player.position);
  if (drawn) addRegion(drawn);
});
$("front").addEventListener("pointercancel", () => { from = null; plot.over(state.regions, null, player.position); });

$("numbers").addEventListener("submit", (event) => {
  event.preventDefault();
  const [low_hz, high_hz, start_s, end_s] = ["low", "high", "start", "end"].map((id) => Number($(id).value));
  addRegion({ low_hz, high_hz, start_s, end_s, keep: event.submitter?.value === "keep" });
});
$("clear").addEventListener("click", () => { state.regions = []; show("brush-error", () => askBrush()); });

function addRegion(region) {
  const round = (value, digits) => Number(value.toFixed(digits));
  const { low_hz, high_hz, start_s, end_s, keep } = region;
  state.regions.push({ low_hz: round(low_hz, 1), high_hz: round(high_hz, 1), start_s: round(start_s, 3), end_s: round(end_s, 3), keep });
  return show("brush-error", () => askBrush());
}

// Asks how the brushed sound is classified; only the answer to the latest regions counts.
async function askBrush(listen = true) {
  showRegions();
  const regions = [...state.regions], base = path();
  const label = state.label ?? state.before.indexOf(Math.max(...state.before));
  const latest = () => base === path() && JSON.stringify(regions) === JSON.stringify(state.regions);
  if (!regions.length) return forgetBrush();
  try {
    const made = await post(`${base}/brush`, { regions, label });
    const [left, mask] = await Promise.all([wav(`made/${made.key}/interpretation.wav`), bytes(`made/${made.key}/mask`)]);
    if (!latest()) return undefined;
    Object.assign(state, { brush: made, after: made.probabilities });
    made.picture = mask;
    player.add("brush", left);
    hear(listen ? "brush" : wanted());
    const top = state.after.indexOf(Math.max(...state.after));
    $("brush-says").textContent = `${state.labels[label]}: ${percent(made.probability)} in the sound, ${percent(made.alone)} in what is left. Likeliest now: ${state.labels[top]} (${percent(state.after[top])}).`;
    $("brush-says").hidden = false;
    $("brush-link").href = `made/${made.key}/interpretation.wav`;
    $("brush-link").download = "brushed.wav";
    showLabels();
    showMade();
  } catch (error) {
    if (latest() && listen) { state.regions.pop(); showRegions(); }
    throw error;
  }
  return undefined;
}

function forgetBrush() {
  Object.assign(state, { brush: null, after: null });
  player.remove("brush");
  $("brush-says").hidden = true;
  hear(wanted() === "brush" ? "sound" : wanted());
  showLabels();
  showMade();
}

function showRegions() {
  $("region-row").hidden = !state.regions.length;
  if (!state.regions.length) $("brush-says").hidden = true;
  $("regions").replaceChildren(...state.regions.map((each, i) => {
    const text = `${each.keep ? "kept" : "muted"}: ${Math.round(each.low_hz)} to ${Math.round(each.high_hz)} Hz, ${each.start_s.toFixed(2)} to ${each.end_s.toFixed(2)} s`;
    const button = element("button", { type: "button" }, "Remove");
    button.setAttribute("aria-label", `Remove ${text}`);
    button.addEventListener("click", () => { state.regions.splice(i, 1); show("brush-error", () => askBrush()); });
    return element("li", {}, element("span", { className: `swatch${each.keep ? " keep" : ""}` }), text, button);
  }));
  plot.over(state.regions, null, player.position);
}

$("scale").addEventListener("change", () => { plot.scale = $("scale").value; plot.draw(); });

// ---- saving

$("save").addEventListener("click", () => show("save-error", async () => {
  $("saved").hidden = true;
  $("save").disabled = true;
  $("save").textContent = "Saving …";
  try {
    const keys = [...state.made, ...(state.brush ? [state.brush] : [])].map((each) => each.key);
    const saved = await post("save", { keys });
    $("saved").replaceChildren(
      `Saved as ${saved.methods.join(", ")} in the run folder `, element("code", {}, saved.folder), ". Open ",
      element("code", {}, saved.page), " for its page; ", element("code", {}, "audiointerp listen export"), " makes a listening test of it.",
    );
    $("saved").hidden = false;
  } finally {
    $("save").textContent = "Save as a run";
    $("save").disabled = false;
  }
}));

// ---- start

show("open-error", async () => {
  limits = await json("state");
  Object.assign(state, { labels: limits.labels, methods: limits.methods });
  state.methods.forEach((method, i) => {
    const input = element("input", { type: "checkbox", value: method.name, checked: i === 0 });
    $(method.at_once ? "methods" : method.control ? "control-methods" : "more-methods").append(element("label", {}, input, element("span", {}, method.name)));
  });
  for (const place of ["more", "control"]) $(`${place}-methods`).parentElement.hidden = !$(`${place}-methods`).children.length;
  $("labels-help").textContent = limits.multilabel
    ? "Each label has a probability of its own. Click one to hear what speaks for it."
    : "Click a label to hear what speaks for it.";
  if (limits.sounds.length) await openSound(limits.sounds.at(-1));
});
