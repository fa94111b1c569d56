// The page of a trial: its sounds, its scale or choices, its missing steps, and its keyboard shortcuts.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const CONTEXT = {
  mos: ["the full recording", "Full recording"], ab: ["the full recording", "Full recording"],
  abx: ["X", "Sound X"], rating: ["the reference", "Reference"],
};
const EYEBROW = {
  mos: "Opinion score", ab: "A/B comparison", abx: "ABX comparison", simulate: "Recognition", rating: "Multi-stimulus rating",
};
const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

function trialPage() {
  const shown = pages()[session.page];
  const trial = study.trials[shown.trial_id];
  session.draft ??= { started_utc: now(), spent_ms: 0, sounds: {}, answers: {}, choice: null };
  const { draft } = session;
  const memory = (slot) => (draft.sounds[slot] ??= { ranges: [], plays: 0 });
  for (const place of ["context", "sounds", "choice"]) $(place).replaceChildren();
  $("sounds").className = `task-${study.task}`;

  if (trial.context) {
    const [, title] = CONTEXT[study.task];
    addSound($("context"), {
      id: trial.context, slot: "0", name: title, hint: "listen to this first", memory: memory("0"),
    });
  }
  const judged = shown.stimuli.map((id, index) => judgedSound(id, String(index + 1), shown, memory));
  const choices = choicesOf(trial);
  if (choices) $("choice").append(choiceOf(choices, draft));
  missing = () => waiting(judged, draft, choices);
  keysHelp(judged.length, Boolean(trial.context), choices);
  showTrial(trial);
}

function showTrial(trial) {
  const practice = pages().filter((each) => study.trials[each.trial_id].practice).length;
  const number = session.page + 1 - practice;
  const total = pages().length - practice;
  const first = number === 1 && practice > 0;
  $("trial-note").textContent = trial.practice
    ? "This page is for practice: answers here do not count." : "Practice is over. From here on your answers count.";
  $("trial-note").hidden = !trial.practice && !first;
  show("trial", {
    eyebrow: trial.practice ? "Practice" : EYEBROW[study.task],
    heading: trial.prompt, button: "Next", total, done: Math.max(0, number - 1),
    progress: trial.practice ? "Practice" : `Page ${number} of ${total}`,
  });
}

function judgedSound(id, slot, shown, memory) {
  const name = study.task === "simulate" ? "The sound" : `Sound ${LETTERS[slot - 1]}`;
  const answered = (value) => {
    session.draft.answers[slot] = value;
    keepAll();
    gate();
  };
  const value = session.draft.answers[slot];
  let scale = null;
  let rate = null;
  if (study.task === "mos") {
    scale = keyScale({
      legend: `Your opinion of ${name}`, name: `opinion-${slot}`, chosen: value, picked: answered,
      options: OPINIONS.map((word, index) => [index + 1, String(index + 1), word]),
    });
    rate = (digit) => scale.querySelectorAll("input")[digit - 1].click();
  } else if (study.task === "rating") {
    const made = slider({ name, slot, value, picked: answered });
    scale = made.element;
    rate = (digit) => made.set(20 * digit - 10); // the middle of the range of that word
  }
  const sound = addSound($("sounds"), { id, slot, name, hint: "not heard yet", memory: memory(slot), scale });
  sound.rate = rate;
  return sound;
}

// The choices of a page that has one answer: [[index, big, small]]; null for scales.
function choicesOf(trial) {
  const of = (words) => words.map((word, index) => [index, word]);
  if (study.task === "simulate") return of(trial.choices);
  if (study.task === "abx") return of(["A", "B"]);
  return study.task === "ab" ? of(["A", "B", ...trial.choices.map(() => "No preference")]) : null;
}

function choiceOf(options, draft) {
  const legend = { ab: "I prefer", abx: "X is the same as", simulate: "What you hear is" }[study.task];
  const picked = (index) => {
    draft.choice = index;
    keepAll();
    gate();
  };
  const element = keyScale({ legend, name: "choice", options, chosen: draft.choice ?? undefined, wide: true, picked });
  element.dataset.choice = "";
  return element;
}

function waiting(judged, draft, choices) {
  const short = ({ slot, name }) => (slot === "0" ? CONTEXT[study.task][0] : name.replace(/^Sound /, "").replace("The", "the"));
  const named = (verb, some) => (some.length ? [[`${verb} ${list(some.map(short))}`, some[0].element]] : []);
  const unrated = judged.filter((sound) => !choices && draft.answers[sound.slot] === undefined);
  const unchosen = choices && draft.choice === null;
  return [
    ...named("listen to", sounds.filter((sound) => !sound.done)), ...named("rate", unrated),
    ...(unchosen ? [["choose an answer", document.querySelector("[data-choice] input")]] : []),
  ];
}

function submit() {
  keepAll();
  const shown = pages()[session.page];
  const judged = sounds.filter((sound) => sound.slot !== "0");
  session.rows.push(...answerRows(session, shown, judged));
  session.plays.push({
    trial_id: shown.trial_id, context: study.trials[shown.trial_id].context, stimuli: shown.stimuli,
    sounds: Object.fromEntries(sounds.map((each) => [each.slot, { heard_fraction: each.heard, n_plays: each.memory.plays }])),
  });
  session.draft = null;
  session.page += 1;
  if (session.page === pages().length) session.view = "questions";
  turn();
}

function keysHelp(count, hasContext, choices) {
  const digits = (last) => (last === 1 ? ["1"] : ["1", "–", String(Math.min(9, last))]);
  const keys = (names) => names.map((name) => (name === "–" || name === "+" ? name : make("kbd", {}, name)));
  const picks = choices ? choices.length : 5;
  const does = choices ? "chooses the first, second … answer" : "rates the sound played or focused last";
  const lines = [
    ...(hasContext ? [[["0"], `plays ${CONTEXT[study.task][0]}`]] : []),
    [digits(count), count === 1 ? "plays the sound" : "play the sounds"], [["Shift", "+", ...digits(picks)], does],
    ...(study.task === "rating" ? [[["←", "→"], "move the slider by one"]] : []), [["Enter"], "next page"],
  ];
  $("keys-list").replaceChildren(...lines.map(([names, text]) => make("li", {}, make("span", {}, ...keys(names)), text)));
  $("shortcuts").checked = session.shortcuts;
  shiftPick = (digit) => {
    if (choices) {
      const input = document.querySelectorAll("[data-choice] input")[digit - 1];
      if (input) input.click();
      return;
    }
    const sound = sounds.find((each) => each.element === latest);
    if (!sound) return say("Play a sound first, then rate it.");
    if (digit <= 5) {
      sound.rate(digit);
      say(`${sound.name}: ${study.task === "mos" ? digit + " " : ""}${OPINIONS[digit - 1]}`);
    }
  };
}
