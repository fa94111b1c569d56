// Start page, turning of pages, closing questions, keyboard. The bar at the foot of a page lists the missing steps ("the gate").

let session = null; // null until the participant begins
let saved = false;
let sounds = []; // the sounds of this page; judged sounds have slots from 1, the context has slot 0
let latest = null; // the card played or focused last
let missing = () => []; // the missing steps of this page: [[text, element to focus]]
let shiftPick = () => {}; // action of Shift and a digit on this page
let seenAt = 0;
let away = false; // whether another tab or window is used

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
  const text = open.length ? word("still", { steps: open.map(([words]) => words).join("; ") }) : word("ready");
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
  else if (session.view === "check") answerCheck();
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
  bar.setAttribute("aria-valuetext", progress || word("not_begun"));
  bar.firstElementChild.style.width = `${total ? (100 * done) / total : 0}%`;
  document.title = progress ? `${progress} · ${study.title}` : study.title;
  trouble(session && !keep.works ? word("no_storage") : "");
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
  const { name } = sound;
  const words = {
    started: word("is_playing", { name }), ended: word("was_heard", { name }), refused: word("from_start"),
    blocked: word("once_more", { name }),
    failed: `${word("cannot", { name })} ${study.sources[study.level] ? word("files_there") : ""}`,
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
    const spent = performance.now() - seenAt;
    session.draft.spent_ms += spent;
    if (away) session.draft.away_ms += spent;
    seenAt = performance.now();
  }
  keep.save(session);
}

// ---- start ------------------------------------------------------------------------------------------------------

function startPage() {
  const chosen = () => document.querySelector("[name=transducer]:checked");
  const code = () => $("code").value.trim();
  const given = participantNumber("");
  if (givenCode) {
    $("code").value = givenCode;
    $("code").readOnly = CODE.test(givenCode);
    $("code-hint").textContent = word("code_given");
  } else if (given !== null) $("code").value = `P${given}`;
  if (COLLECTOR) $("kept").textContent = word("sent_there", { host: location.host });
  const level = addSound($("level"), {
    id: study.level, slot: "1", key: "level", name: word("sample_sound"), hint: word("not_heard"), memory: { ranges: [], plays: 0 },
  });
  missing = () => [
    ...($("consent").checked ? [] : [[word("give_consent"), $("consent")]]),
    ...(CODE.test(code()) ? [] : [[word("fix_code"), $("code")]]),
    ...(chosen() ? [] : [[word("say_device"), document.querySelector("[name=transducer]")]]),
    ...(level.done ? [] : [[word("set_level"), level.element]]),
  ];
  $("view-start").addEventListener("input", () => {
    $("transducer-advice").hidden = !chosen() || chosen().value !== "loudspeakers";
    gate();
  });
  const left = keep.unfinished();
  if (left) {
    const when = new Date(left.started_utc).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const whose = left.participant_code ? word("by", { code: left.participant_code }) : "";
    $("resume-text").textContent = word("unfinished", { whose, when });
    $("resume-button").addEventListener("click", () => take(left));
    $("resume").hidden = false;
  }
  show("start", { heading: study.title, button: word("begin") });
}

let beginning = false; // while the server is asked for an order

async function begin() {
  if (beginning) return;
  beginning = true;
  let rate = "";
  try {
    const context = new AudioContext();
    rate = context.sampleRate;
    context.close();
  } catch {
    rate = ""; // without Web Audio the sample rate of the device is unknown
  }
  const code = $("code").value.trim();
  const id = randomId();
  const order = await askOrder(code || id, participantNumber(code));
  beginning = false;
  take(newSession(id, code, document.querySelector("[name=transducer]:checked").value, rate, order));
}

function take(taken) {
  session = taken;
  turn();
}

function turn() {
  leavePage();
  ({ check: checkPage, trial: trialPage, questions: questionsPage, finish: finishPage })[session.view]();
  keepAll();
}

// ---- closing questions ------------------------------------------------------------------------------------------

function questionsPage() {
  const { questionnaire } = session;
  for (const input of $("view-questions").querySelectorAll("input, textarea")) {
    const answer = questionnaire[input.name.slice(2)];
    if (input.type === "radio") input.checked = answer === input.value;
    else input.value = answer;
  }
  show("questions", {
    eyebrow: word("nearly_done"), heading: word("about_you"), button: word("finish"), done: 1, total: 1,
    progress: word("all_answered"),
  });
  $("reason").textContent = "";
}

function finish() {
  session.finished_utc = now();
  session.view = "finish";
  turn();
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
  if (!digit || !session || !["trial", "check"].includes(session.view) || !session.shortcuts) return;
  event.preventDefault();
  if (event.shiftKey) return shiftPick(Number(digit[1]));
  const sound = sounds.find((each) => each.slot === digit[1]);
  if (!sound) return;
  sound.element.focus();
  sound.player.toggle();
}

// ---- set-up ---------------------------------------------------------------------------------------------------------

$("next").addEventListener("click", next);
$("view-questions").addEventListener("input", ({ target }) => {
  session.questionnaire[target.name.slice(2)] = target.value;
  keepAll();
});
$("shortcuts").addEventListener("change", () => {
  session.shortcuts = $("shortcuts").checked;
  keepAll();
});
$("sounds").addEventListener("focusin", ({ target }) => (latest = target.closest("[data-slot]")));
addEventListener("keydown", onKey);
// Another tab or window: on each page, how often and for how long.
function look() {
  const now = document.hidden || !document.hasFocus();
  if (now === away) return;
  keepAll();
  away = now;
  if (away && session && session.draft) session.draft.n_away += 1;
  keepAll();
}
for (const name of ["visibilitychange", "blur", "focus"]) addEventListener(name, look);
addEventListener("pagehide", keepAll);
addEventListener("beforeunload", (event) => {
  if (!session || saved) return;
  keepAll();
  event.preventDefault(); // also on the last page, as long as the answers are in this browser only
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
