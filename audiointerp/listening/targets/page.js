// Start page, trials, closing questions, saving. The bar at the foot of a page lists the missing steps ("the gate").

let session = null; // null until the participant begins
let saved = false;
let sounds = []; // the sounds of this page; judged sounds have slots from 1, the context has slot 0
let latest = null; // the card played or focused last
let missing = () => []; // the missing steps of this page: [[text, element to focus]]
let shiftPick = () => {}; // action of Shift and a digit on this page
let seenAt = 0;

const CODE = /^([\p{L}\p{N}][\p{L}\p{N} ._-]*)?$/u; // may be empty
const pages = () => study.sessions[session.order];

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

// ---- the gate ---------------------------------------------------------------------------------------------------

function gate() {
  const open = missing();
  $("next").setAttribute("aria-disabled", String(open.length > 0));
  const text = open.length ? `Still to do: ${open.map(([words]) => words).join("; ")}.` : "Ready to continue.";
  if ($("reason").textContent !== text) $("reason").textContent = text;
  $("gate").classList.toggle("open", !open.length);
}

function next() {
  const open = missing();
  if (open.length) {
    say($("reason").textContent);
    open[0][1].focus();
    return;
  }
  if (!session) begin();
  else if (session.view === "trial") submit();
  else if (session.view === "questions") finish();
}

// ---- turning to a page ------------------------------------------------------------------------------------------

function show(view, { eyebrow = "", heading, button, done = 0, total = 0, progress = "" }) {
  for (const name of ["start", "trial", "questions", "finish"]) $(`view-${name}`).hidden = name !== view;
  document.body.dataset.view = view;
  $("eyebrow").textContent = eyebrow;
  $("eyebrow").hidden = !eyebrow;
  $("heading").textContent = heading;
  $("next").textContent = button;
  $("gate").hidden = !button;
  $("progress").hidden = !total;
  $("progress-text").textContent = progress;
  const bar = $("progress-bar");
  bar.setAttribute("aria-valuemax", total || 1);
  bar.setAttribute("aria-valuenow", done);
  bar.setAttribute("aria-valuetext", progress || "not begun");
  bar.firstElementChild.style.width = `${total ? (100 * done) / total : 0}%`;
  document.title = progress ? `${progress} · ${study.title}` : study.title;
  trouble(session && !keep.works ? "This browser cannot store your answers: please do not reload or close this page before the end." : "");
  seenAt = performance.now();
  if (session) {
    scrollTo(0, 0);
    $("heading").focus({ preventScroll: true });
    if (progress) say(progress);
  }
  gate();
}

function leavePage() {
  for (const sound of sounds) sound.player.leave();
  sounds = [];
  latest = null;
  missing = () => [];
  shiftPick = () => {};
}

// Adds the card of one sound to this page; the session stores how much of the sound was heard.
function addSound(where, options) {
  const sound = soundCard({ ...options, changed: soundChanged });
  where.append(sound.element);
  sounds.push(sound);
  return sound;
}

function soundChanged(sound, event) {
  const words = {
    started: `Playing ${sound.name}`, ended: `${sound.name}: heard`,
    refused: "Each sound is played from its start to its end, at its own speed.",
    blocked: `Press the button of ${sound.name} once more.`,
    failed: `${sound.name} cannot be played. ${study.sources[study.level] ? "Are the sound files next to this page?" : ""}`,
  };
  if (event === "started") {
    trouble("");
    latest = sound.element;
  }
  if (event === "refused" || event === "failed" || event === "blocked") trouble(words[event]);
  else if (words[event]) say(words[event]);
  if (event !== "heard") keepAll();
  gate();
}

function keepAll() {
  if (!session || saved) return;
  if (session.draft) {
    session.draft.spent_ms += performance.now() - seenAt;
    seenAt = performance.now();
  }
  keep.save(session);
}

// ---- start ------------------------------------------------------------------------------------------------------

function startPage() {
  const chosen = () => document.querySelector("[name=transducer]:checked");
  const code = () => $("code").value.trim();
  const given = participantNumber("");
  if (given !== null) $("code").value = `P${given}`;
  const level = addSound($("level"), {
    id: study.level, slot: "1", name: "Sample sound", hint: "not heard yet", memory: { ranges: [], plays: 0 },
  });
  missing = () => [
    ...($("consent").checked ? [] : [["give your consent", $("consent")]]),
    ...(CODE.test(code()) ? [] : [["give a code of letters, digits, points and dashes", $("code")]]),
    ...(chosen() ? [] : [["say what you listen with", document.querySelector("[name=transducer]")]]),
    ...(level.done ? [] : [["set the level", level.element]]),
  ];
  $("view-start").addEventListener("input", () => {
    $("transducer-advice").hidden = !chosen() || chosen().value !== "loudspeakers";
    gate();
  });
  const left = keep.unfinished();
  if (left) {
    const when = new Date(left.started_utc).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const whose = left.participant_code ? ` by ${left.participant_code}` : "";
    $("resume-text").textContent = `A test started in this browser${whose}, ${when}, was not finished or not saved.`;
    $("resume-button").addEventListener("click", () => take(left));
    $("resume").hidden = false;
  }
  show("start", { heading: study.title, button: "Begin" });
}

function begin() {
  let rate = "";
  try {
    const context = new AudioContext();
    rate = context.sampleRate;
    context.close();
  } catch {
    rate = ""; // without Web Audio the sample rate of the device is unknown
  }
  const session = newSession($("code").value.trim(), document.querySelector("[name=transducer]:checked").value, rate);
  take(session);
}

function take(taken) {
  session = taken;
  turn();
}

function turn() {
  leavePage();
  ({ trial: trialPage, questions: questionsPage, finish: finishPage })[session.view]();
  keepAll();
}

// ---- closing questions and saving -------------------------------------------------------------------------------

function questionsPage() {
  const { questionnaire } = session;
  for (const input of $("view-questions").querySelectorAll("input")) input.checked = questionnaire[input.name] === input.value;
  $("remarks").value = questionnaire.remarks;
  show("questions", { eyebrow: "Nearly done", heading: "About you", button: "Finish", done: 1, total: 1, progress: "All pages answered" });
  $("reason").textContent = "";
}

function finish() {
  session.finished_utc = now();
  session.view = "finish";
  turn();
}

function finishPage() {
  $("copy").value = toCsv(session);
  show("finish", { eyebrow: "Thank you", heading: "Save your answers", button: "", done: 1, total: 1, progress: "All pages answered" });
}

function download(kind, text, type) {
  const name = `${study.test_id}__${session.session_id}.${kind}`;
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  saved = true;
  keep.forget(session);
  $("saved").textContent = `Saved as ${name}in your browser's download folder. You may close this page.`;
  $("saved").hidden = false;
  say($("saved").textContent);
}

// ---- keyboard ---------------------------------------------------------------------------------------------------

function onKey(event) {
  const { target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || target.matches("input[type=text], textarea")) return;
  if (event.key === "Enter") {
    if ($("gate").hidden || target.closest("button, a, summary")) return; // Enter has its own action on these elements
    event.preventDefault();
    next();
    return;
  }
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (!digit || !session || session.view !== "trial" || !session.shortcuts) return;
  event.preventDefault();
  if (event.shiftKey) return shiftPick(Number(digit[1]));
  const sound = sounds.find((each) => each.slot === digit[1]);
  if (!sound) return;
  sound.element.focus();
  sound.player.toggle();
}

// ---- set-up ---------------------------------------------------------------------------------------------------------

$("next").addEventListener("click", next);
$("save-csv").addEventListener("click", () => download("csv", toCsv(session), "text/csv;charset=utf-8"));
$("save-json").addEventListener("click", () => download("json", toJson(session), "application/json"));
$("view-questions").addEventListener("input", ({ target }) => {
  session.questionnaire[target.name] = target.value;
  keepAll();
});
$("shortcuts").addEventListener("change", () => {
  session.shortcuts = $("shortcuts").checked;
  keepAll();
});
$("sounds").addEventListener("focusin", ({ target }) => (latest = target.closest("[data-slot]")));
addEventListener("keydown", onKey);
addEventListener("pagehide", keepAll);
addEventListener("beforeunload", (event) => {
  if (!session || saved) return;
  keepAll();
  event.preventDefault();
  event.returnValue = "";
});
// After a reload, the last write of the old page may not be visible yet, so reading is retried.
function takeUp(patience) {
  const id = keep.pointer();
  const mine = id && keep.read(id);
  if (mine) take(mine);
  else if (id && patience) setTimeout(takeUp, 50, patience - 1);
  else startPage();
}
takeUp(20);
