// Plays one sound from its start, at its own speed, and records how much of it was heard.

const HEARD = 0.95; // share of the duration, over the union of all played ranges

function union(ranges) {
  const merged = [];
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged[merged.length - 1];
    if (last && start <= last[1] + 0.001) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}

// URL of a sound: one that the page made, a Blob of the embedded data (decoded when its page is shown), or the file next to the page.
const made = {}; // id of a sound made by the page -> its URL
function sourceOf(id) {
  if (id in made) return made[id];
  if (id in study.sources) return study.sources[id];
  const text = atob(document.querySelector(`script[data-audio="${id}"]`).textContent);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "audio/wav" }));
}

class Player {
  static playing = null; // only one sound plays at a time

  // memory: {ranges, plays}, stored with the session. change(player, event) redraws the card and announces the event.
  constructor(id, memory, change) {
    this.memory = memory;
    this.change = change;
    this.before = memory.ranges; // ranges heard before the current play
    this.active = false;
    this.rewinding = false;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.audio.hidden = true;
    const on = (name, action) => this.audio.addEventListener(name, action);
    on("ended", () => this.stop("ended"));
    on("pause", () => this.audio.paused && !this.audio.ended && this.stop("stopped")); // paused by media keys
    on("seeking", () => this.rewinding || this.refuse());
    on("seeked", () => (this.rewinding = false));
    on("ratechange", () => {
      if (this.audio.playbackRate !== 1 || this.audio.defaultPlaybackRate !== 1) this.refuse();
    });
    on("timeupdate", () => this.listen());
    on("error", () => this.audio.src && this.stop("failed"));
    this.audio.src = this.url = sourceOf(id);
    this.seconds = study.seconds[id] || 0;
  }

  get duration() {
    return Number.isFinite(this.audio.duration) ? this.audio.duration : this.seconds;
  }

  // Fraction of the sound that was heard, 0 to 1, to three decimals.
  get heard() {
    const covered = this.memory.ranges.reduce((sum, [start, end]) => sum + end - start, 0);
    return this.duration ? Math.round(Math.min(1, covered / this.duration) * 1000) / 1000 : 0;
  }

  get done() {
    return this.heard >= HEARD;
  }

  get place() {
    return this.active && this.duration ? Math.min(1, this.audio.currentTime / this.duration) : 0;
  }

  toggle() {
    if (this.active) this.stop("stopped");
    else this.start();
  }

  start() {
    if (Player.playing) Player.playing.stop("stopped");
    Player.playing = this;
    this.active = true;
    this.before = this.memory.ranges;
    this.memory.plays += 1;
    if (this.audio.currentTime > 0) {
      this.rewinding = true;
      this.audio.currentTime = 0;
    }
    this.change(this, "started");
    this.audio.play().catch((error) => {
      if (error.name !== "AbortError") this.stop(error.name === "NotAllowedError" ? "blocked" : "failed");
    });
    const draw = () => {
      if (!this.active) return;
      this.listen();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  stop(reason) {
    if (Player.playing === this) Player.playing = null;
    const was = this.active;
    this.active = false;
    this.audio.pause();
    if (reason !== "refused") this.listen();
    if (was || reason === "failed" || reason === "refused") this.change(this, reason);
  }

  listen() {
    const { played } = this.audio;
    const ranges = Array.from({ length: played.length }, (_, index) => [played.start(index), played.end(index)]);
    this.memory.ranges = union([...this.before, ...ranges]);
    this.change(this, "heard");
  }

  // Seeking or another speed: this play does not count, and the element is reloaded to discard its played ranges.
  refuse() {
    this.audio.defaultPlaybackRate = 1;
    this.audio.playbackRate = 1;
    this.memory.ranges = this.before;
    this.audio.load();
    this.stop("refused");
  }

  leave() {
    this.stop("left");
    this.audio.removeAttribute("src");
    this.audio.remove();
    if (this.url.startsWith("blob:")) URL.revokeObjectURL(this.url);
  }
}
