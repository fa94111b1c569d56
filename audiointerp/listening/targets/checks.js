// Two checks before the first page, made by the page itself, so that their answers are nowhere in the file.
// Headphones: the test of Woods et al. (2017), doi 10.3758/s13414-017-1361-2. Three tones of 200 Hz, of which
// one is 6 dB softer and another has opposite phase in the two channels: from loudspeakers the waves of that one cancel, so
// that it seems the softest. Level: bursts of noise down to 30 dB below the level of the test, which are counted.

const CHECK_RATE = 16000; // Hz
const TONE_TRIALS = 6;
const TONES_NEEDED = 5; // right answers, as in the paper
const TONE_ATTEMPTS = 2;
const LEVEL_ATTEMPTS = 3;
const BURSTS = [3, 4, 5, 6];
const OFFERED = [2, 3, 4, 5, 6, 7];

function randomInt(count) {
  return crypto.getRandomValues(new Uint32Array(1))[0] % count;
}

function shuffled(values) {
  const left = [...values];
  return values.map(() => left.splice(randomInt(left.length), 1)[0]);
}

// A stereo WAV of 16 bits as the URL of a Blob; sample(frame) -> [left, right], each in [-1, 1].
function wavOf(seconds, sample) {
  const frames = Math.round(seconds * CHECK_RATE);
  const view = new DataView(new ArrayBuffer(44 + 4 * frames));
  const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 4 * frames, true);
  text(8, "WAVEfmt ");
  [[16, 16, 4], [20, 1, 2], [22, 2, 2], [24, CHECK_RATE, 4], [28, 4 * CHECK_RATE, 4], [32, 4, 2], [34, 16, 2]]
    .forEach(([at, value, bytes]) => (bytes === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true)));
  text(36, "data");
  view.setUint32(40, 4 * frames, true);
  for (let frame = 0; frame < frames; frame += 1) {
    sample(frame).forEach((value, side) => view.setInt16(44 + 4 * frame + 2 * side, Math.round(32767 * value), true));
  }
  return URL.createObjectURL(new Blob([view.buffer], { type: "audio/wav" }));
}

// 0 to 1 to 0 over `length` seconds with cosine ramps.
function ramped(time, length, ramp) {
  const edge = Math.min(time, length - time) / ramp;
  return edge >= 1 ? 1 : edge <= 0 ? 0 : 0.5 - 0.5 * Math.cos(Math.PI * edge);
}

// kinds: "plain", "soft" (6 dB below) and "opposite" in their order.
function tonesUrl(kinds) {
  const every = 1.5; // seconds: a tone of 1 s and a pause
  return wavOf(every * kinds.length, (frame) => {
    const time = frame / CHECK_RATE;
    const kind = kinds[Math.floor(time / every)];
    const level = 0.1 * ramped(time % every, 1, 0.1) * (kind === "soft" ? 10 ** (-6 / 20) : 1);
    const value = level * Math.sin(2 * Math.PI * 200 * time);
    return [value, kind === "opposite" ? -value : value];
  });
}

// levels: of each burst, in dB.
function burstsUrl(levels) {
  const every = 0.8; // seconds: a burst of 0.3 s and a pause
  return wavOf(every * levels.length + 0.2, (frame) => {
    const time = frame / CHECK_RATE;
    const place = Math.min(levels.length - 1, Math.floor(time / every));
    const level = 0.07 * 10 ** (levels[place] / 20) * ramped(time - every * place, 0.3, 0.02);
    const value = Math.sqrt(3) * level * (2 * Math.random() - 1); // uniform noise has its range over sqrt(3) as RMS
    return [value, value];
  });
}

// What one check plays and asks next; null when all checks are done.
function nextCheck() {
  const check = (session.check ??= { name: study.checks[0], attempt: 1, right: 0, trial: 0, asked: null, again: false });
  if (!check.asked) {
    if (check.name === "headphones") check.asked = { kinds: shuffled(["plain", "soft", "opposite"]) };
    else {
      const count = BURSTS[randomInt(BURSTS.length)];
      check.asked = { levels: shuffled([0, -30, ...Array.from({ length: count - 2 }, () => -10 * randomInt(4))]) };
    }
    check.asked = { ...check.asked, choice: null, memory: { ranges: [], plays: 0 } };
  }
  return check;
}

function checkPage() {
  const check = nextCheck();
  const isTones = check.name === "headphones";
  const { asked } = check;
  for (const place of ["context", "sounds", "choice"]) $(place).replaceChildren();
  $("sounds").className = "task-simulate";
  made.check = isTones ? tonesUrl(asked.kinds) : burstsUrl(asked.levels);
  study.seconds.check = isTones ? 4.5 : 0.8 * asked.levels.length + 0.2;
  addSound($("sounds"), { id: "check", slot: "1", name: word(isTones ? "tones" : "bursts"), hint: word("not_heard"), memory: asked.memory });
  const options = isTones ? ["first", "second", "third"].map((key, index) => [index, word(key)]) : OFFERED.map((count) => [count, String(count)]);
  const picked = (value) => {
    asked.choice = value;
    keepAll();
    gate();
  };
  const heading = word(isTones ? "check_headphones" : "check_level");
  const scale = keyScale({ legend: heading, name: "choice", options, chosen: asked.choice ?? undefined, wide: true, picked });
  scale.dataset.choice = "";
  $("choice").append(scale);
  missing = () => [
    ...(sounds[0].done ? [] : [[word("listen_to", { names: word("the_sound_short") }), sounds[0].element]]),
    ...(asked.choice === null ? [[word("choose"), document.querySelector("[data-choice] input")]] : []),
  ];
  keysHelp(1, "", options);
  $("trial-note").textContent = word(`check_${check.name}${check.again ? "_again" : "_note"}`);
  $("trial-note").hidden = false;
  const total = isTones ? TONE_TRIALS : 1;
  const progress = isTones ? word("check_of", { n: check.trial + 1, total }) : word("check");
  show("trial", { eyebrow: progress, heading, button: word("next"), total, done: isTones ? check.trial : 0, progress });
}

// After an answer: the next tone, another attempt, the next check or the first page.
function answerCheck() {
  const { check } = session;
  const { asked } = check;
  const isTones = check.name === "headphones";
  const right = isTones ? asked.kinds[asked.choice] === "soft" : asked.choice === asked.levels.length;
  check.right += right;
  check.trial += 1;
  check.asked = null;
  check.again = false;
  const [total, needed, attempts] = isTones ? [TONE_TRIALS, TONES_NEEDED, TONE_ATTEMPTS] : [1, 1, LEVEL_ATTEMPTS];
  if (check.trial === total) {
    const passed = check.right >= needed;
    const score = isTones ? `${check.right}/${total}` : `${passed ? 1 : 0}/1`;
    session[isTones ? "headphone_check" : "level_check"] = `${score} in attempt ${check.attempt}: ${passed ? "passed" : "failed"}`;
    if (!passed && check.attempt < attempts) {
      session.check = { ...check, attempt: check.attempt + 1, right: 0, trial: 0, again: true };
    } else {
      const name = study.checks[study.checks.indexOf(check.name) + 1];
      session.check = name ? { name, attempt: 1, right: 0, trial: 0, asked: null, again: false } : null;
      if (!name) session.view = "trial";
    }
  }
  turn();
}
