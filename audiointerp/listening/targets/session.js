// A session: its pages, its answers, their storage in the browser, and the rows of the result file.

const study = JSON.parse(document.getElementById("study").textContent);
const POINTER = `${study.test_id}:current`; // in this tab: the session that continues after a reload

// FNV-1a, 32 bits: distributes session ids evenly over the orders, with the same result in every browser.
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return "s_" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const query = new URLSearchParams(location.search);
// The participant's id if the address has one: Prolific's, or ?participant=.
const givenCode = (query.get("PROLIFIC_PID") || query.get("participant") || "").trim().slice(0, 40);

// Participant number: ?p= in the address, else the number at the end of a code that was typed ("7", "P07"), else none.
// The digits at the end of an id from the address mean nothing.
function participantNumber(code) {
  const given = query.get("p");
  const found = /^\d{1,9}$/.test(given || "") ? [given] : code && code === givenCode ? null : /\d{1,9}$/.exec(code);
  return found ? Number(found[0]) : null;
}

function newSession(id, code, transducer, deviceRate, order) {
  const number = participantNumber(code);
  const row = order ?? (number === null ? hash(`${study.seed}|${id}`) : number) % study.sessions.length;
  return {
    fingerprint: study.fingerprint, session_id: id, participant_code: code, participant_number: number, order: row,
    transducer, device_sample_rate_hz: deviceRate, started_utc: now(), finished_utc: "",
    view: study.checks.length ? "check" : "trial", page: 0, shortcuts: true, draft: null, rows: [], plays: [],
    check: null, headphone_check: "", level_check: "",
    questionnaire: Object.fromEntries(study.questions.map((name) => [name, ""])),
  };
}

function now() {
  return new Date().toISOString();
}

// ---- stored in this browser, so that a reload loses nothing -------------------------------------------------------

const keep = {
  works: true,
  key: (session) => `${study.test_id}:${session.session_id}`,

  save(session) {
    try {
      localStorage.setItem(keep.key(session), JSON.stringify(session));
      sessionStorage.setItem(POINTER, session.session_id);
      // After a reload on a busy machine sessionStorage was sometimes empty; the history entry stays.
      history.replaceState({ [POINTER]: session.session_id }, "");
      keep.works = true;
    } catch {
      keep.works = false; // in private windows and on full disks; the page shows a warning
    }
  },

  forget(session) {
    try {
      localStorage.removeItem(keep.key(session));
      sessionStorage.removeItem(POINTER);
      history.replaceState(null, "");
    } catch {
      keep.works = false;
    }
  },

  read(id) {
    try {
      const session = JSON.parse(localStorage.getItem(`${study.test_id}:${id}`));
      return session && session.fingerprint === study.fingerprint ? session : null; // null for a session of another version of the test
    } catch {
      return null;
    }
  },

  // The id of this tab's session, or null.
  pointer() {
    try {
      return (history.state || {})[POINTER] || sessionStorage.getItem(POINTER);
    } catch {
      return null;
    }
  },

  // The latest session that was left unfinished in another tab, or before the browser was closed.
  unfinished() {
    try {
      const ids = Object.keys(localStorage).filter((key) => key.startsWith(`${study.test_id}:s_`));
      const found = ids.map((key) => keep.read(key.slice(study.test_id.length + 1))).filter(Boolean);
      return found.sort((a, b) => (a.started_utc < b.started_utc ? 1 : -1))[0] || null;
    } catch {
      return null;
    }
  },
};

// ---- answers as rows --------------------------------------------------------------------------------------------

// Rows of the page just answered. Opinion scores and ratings: one row per sound, with its heard fraction. Other tasks:
// one row with the smallest heard fraction and all plays of the judged sounds; position is that of the chosen sound.
function answerRows(session, shown, sounds) {
  const { draft } = session;
  const trial = study.trials[shown.trial_id];
  const base = {
    schema_version: study.schema, test_id: study.test_id, session_id: session.session_id,
    participant_code: session.participant_code, task: study.task, trial_id: shown.trial_id,
    page_index: session.page + 1, answer_ms: Math.round(draft.spent_ms), started_utc: draft.started_utc,
    submitted_utc: now(), user_agent: navigator.userAgent, sample_rate_hz: session.device_sample_rate_hz,
    transducer: session.transducer, n_away: draft.n_away, away_ms: Math.round(draft.away_ms),
    headphone_check: session.headphone_check, level_check: session.level_check,
  };
  const row = (position, answer, heard) => ({
    ...base, stimulus_id: position ? shown.stimuli[position - 1] : "", position: position || "", answer,
    heard_fraction: Math.min(...heard.map((each) => each.heard)),
    n_plays: heard.reduce((sum, each) => sum + each.memory.plays, 0),
  });
  if (study.task === "mos" || study.task === "rating") {
    return sounds.map((sound, index) => row(index + 1, draft.answers[sound.slot], [sound]));
  }
  if (study.task === "simulate") return [row(1, trial.choices[draft.choice], sounds)];
  if (study.task === "abx") return [row(draft.choice + 1, "AB"[draft.choice], sounds)];
  return [draft.choice < 2 ? row(draft.choice + 1, "preferred", sounds) : row(0, "no preference", sounds)];
}

function toCsv(session) {
  // A spreadsheet runs text that begins so as a formula; the analysis takes the apostrophe away again.
  const formula = (text) => /^'*[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text);
  const safe = (value) => (formula(String(value)) ? `'${value}` : String(value));
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => quoted(safe(value));
  const asked = Object.entries(session.questionnaire);
  const columns = [...study.columns, ...asked.map(([name]) => `q_${name}`)];
  const values = (row) => [...study.columns.map((column) => row[column]), ...asked.map(([, answer]) => answer)];
  return [columns.join(","), ...session.rows.map((row) => values(row).map(cell).join(",")), ""].join("\r\n");
}

function toJson(session) {
  const { fingerprint, view, page, shortcuts, draft, check, rows, ...header } = session;
  const { schema, test_id, task, title, sample_rate } = study;
  return JSON.stringify({ schema, test_id, task, title, sample_rate, ...header, rows }, null, 1) + "\n";
}
