// The page of a trial: its sounds, its scale or choices, its missing steps, and its keyboard shortcuts.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
// The sound that is heard first: [its name within a sentence, its name].
const CONTEXTS = {
  mixture: [word("the_full_recording"), word("full_recording")], reference: [word("the_reference"), word("reference")],
  x: [word("the_x"), word("sound_x")],
};
const USUAL = { mos: "mixture", ab: "mixture", abx: "x", rating: "reference" };
const contextOf = (trial) => CONTEXTS[study.task === "abx" ? "x" : trial.context_is || USUAL[study.task]];
const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${word("and")} ${words.at(-1)}`);

function trialPage() {
  const shown = pages()[session.page];
  const trial = study.trials[shown.trial_id];
  session.draft ??= { started_utc: now(), spent_ms: 0, n_away: 0, away_ms: 0, sounds: {}, answers: {}, choice: null };
  const { draft } = session;
  const memory = (slot) => (draft.sounds[slot] ??= { ranges: [], plays: 0 });
  for (const place of ["context", "sounds", "choice"]) $(place).replaceChildren();
  $("sounds").className = `task-${study.task}`;

  if (trial.context) {
    const [, title] = contextOf(trial);
    addSound($("context"), {
      id: trial.context, slot: "0", name: title, hint: word("listen_first"), memory: memory("0"),
    });
  }
  const judged = shown.stimuli.map((id, index) => judgedSound(id, String(index + 1), shown, memory));
  const choices = choicesOf(trial);
  if (choices) $("choice").append(choiceOf(choices, draft));
  missing = () => waiting(trial, judged, draft, choices);
  keysHelp(judged.length, trial.context ? contextOf(trial)[0] : "", choices);
  showTrial(trial);
}

function showTrial(trial) {
  const practice = pages().filter((each) => study.trials[each.trial_id].practice).length;
  const number = session.page + 1 - practice;
  const total = pages().length - practice;
  const first = number === 1 && practice > 0;
  $("trial-note").textContent = trial.practice
    ? word("practice_note") : word("practice_over");
  $("trial-note").hidden = !trial.practice && !first;
  show("trial", {
    eyebrow: word(trial.practice ? "practice" : `eyebrow_${study.task}`),
    heading: trial.prompt, button: word("next"), total, done: Math.max(0, number - 1),
    progress: trial.practice ? word("practice") : word("page_of", { n: number, total }),
  });
}

function judgedSound(id, slot, shown, memory) {
  const name = study.task === "simulate" ? word("the_sound") : word("sound", { letter: LETTERS[slot - 1] });
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
      legend: word("opinion_of", { name }), name: `opinion-${slot}`, chosen: value, picked: answered,
      options: OPINIONS.map((word, index) => [index + 1, String(index + 1), word]),
    });
    rate = (digit) => scale.querySelectorAll("input")[digit - 1].click();
  } else if (study.task === "rating") {
    const made = slider({ name, slot, value, picked: answered });
    scale = made.element;
    rate = (digit) => made.set(20 * digit - 10); // the middle of the range of that word
  }
  const sound = addSound($("sounds"), { id, slot, name, hint: word("not_heard"), memory: memory(slot), scale });
  sound.rate = rate;
  return sound;
}

// The choices of a page that has one answer: [[index, big, small]]; null for scales.
function choicesOf(trial) {
  const of = (words) => words.map((word, index) => [index, word]);
  if (study.task === "simulate") return of(trial.choices.map((choice) => (choice === "cannot tell" ? word("cannot_tell") : choice)));
  if (study.task === "abx") return of(["A", "B"]);
  return study.task === "ab" ? of(["A", "B", ...trial.choices.map(() => word("no_preference"))]) : null;
}

function choiceOf(options, draft) {
  const legend = word({ ab: "i_prefer", abx: "x_is", simulate: "you_hear" }[study.task]);
  const picked = (index) => {
    draft.choice = index;
    keepAll();
    gate();
  };
  const element = keyScale({ legend, name: "choice", options, chosen: draft.choice ?? undefined, wide: true, picked });
  element.dataset.choice = "";
  return element;
}

function waiting(trial, judged, draft, choices) {
  const letter = (slot) => (study.task === "simulate" ? word("the_sound_short") : LETTERS[slot - 1]);
  const short = ({ slot }) => (slot === "0" ? contextOf(trial)[0] : letter(slot));
  const named = (verb, some) => (some.length ? [[word(verb, { names: list(some.map(short)) }), some[0].element]] : []);
  const unrated = judged.filter((sound) => !choices && draft.answers[sound.slot] === undefined);
  const unchosen = choices && draft.choice === null;
  return [
    ...named("listen_to", sounds.filter((sound) => !sound.done)), ...named("rate", unrated),
    ...(unchosen ? [[word("choose"), document.querySelector("[data-choice] input")]] : []),
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

function keysHelp(count, context, choices) {
  const digits = (last) => (last === 1 ? ["1"] : ["1", "–", String(Math.min(9, last))]);
  const keys = (names) => names.map((name) => (name === "–" || name === "+" ? name : make("kbd", {}, name)));
  const picks = choices ? choices.length : 5;
  const does = word(choices ? "key_chooses" : "key_rates");
  const lines = [
    ...(context ? [[["0"], word("key_plays", { name: context })]] : []),
    [digits(count), word(count === 1 ? "key_plays_the" : "key_play")], [["Shift", "+", ...digits(picks)], does],
    ...(study.task === "rating" ? [[["←", "→"], word("key_moves")]] : []), [["Enter"], word("key_next")],
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
    if (!sound) return say(word("play_first"));
    if (digit <= 5) {
      sound.rate(digit);
      say(`${sound.name}: ${study.task === "mos" ? digit + " " : ""}${OPINIONS[digit - 1]}`);
    }
  };
}
