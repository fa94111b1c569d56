// Plays several sounds of one length on one timeline: all run together, one is audible, so that switching is exact.

const FADE = 0.008; // seconds of the cross-fade when another sound is switched to

// The samples of a float32 WAV as this server writes it.
export function readWav(data) {
  const view = new DataView(data);
  let rate = 0;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const name = view.getUint32(at), size = view.getUint32(at + 4, true);
    if (name === 0x666d7420) rate = view.getUint32(at + 12, true); // "fmt "
    if (name === 0x64617461) return { rate, samples: new Float32Array(data.slice(at + 8, at + 8 + size)) }; // "data"
    at += 8 + size + (size % 2);
  }
  throw new Error("the sound that the server sent is not a WAV");
}

// Mono samples as a WAV, float32 for what was recorded, or of 16 bits, whose samples are at most 1 in magnitude.
export function writeWav(samples, rate, bits = 32) {
  const size = bits / 8, view = new DataView(new ArrayBuffer(44 + size * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + size * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, bits === 32 ? 3 : 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, size * rate, true); view.setUint16(32, size, true); view.setUint16(34, bits, true);
  text(36, "data"); view.setUint32(40, size * samples.length, true);
  if (bits === 32) samples.forEach((value, i) => view.setFloat32(44 + 4 * i, value, true));
  else samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(32767 * value), true));
  return view.buffer;
}

// Seconds of a file, by its header; NaN if the browser cannot tell.
export async function durationOf(file) {
  const address = URL.createObjectURL(file), sound = new Audio();
  const seconds = await new Promise((resolve) => {
    sound.onloadedmetadata = () => resolve(sound.duration);
    sound.onerror = () => resolve(NaN);
    sound.src = address;
  });
  URL.revokeObjectURL(address);
  return seconds;
}

// A decoded sound as a mono WAV of 16 bits; one that exceeds full scale, as decoded sounds may, is scaled down to it.
export function monoWav(buffer) {
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, i) => { mono[i] += value / buffer.numberOfChannels; });
  }
  const peak = mono.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  return writeWav(mono.map((value) => value / peak), buffer.sampleRate, 16);
}

export class Player {
  constructor(changed) {
    this.changed = changed; // called when playing starts or stops
    this.tracks = new Map(); // name -> {buffer, peak, source, gain}
    this.current = "";
    this.duration = 0;
    this.offset = 0; // position in seconds while not playing
    this.playing = false;
    this.repeat = false;
    this.full = false;
  }

  clear() {
    this.stop(0);
    this.tracks.clear();
    this.duration = 0;
  }

  add(name, { samples, rate }) {
    // At the sounds' own rate: a source node of another rate interpolates linearly, which dulls and aliases.
    this.context ??= new AudioContext({ sampleRate: rate });
    this.remove(name);
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const track = { buffer, peak };
    this.tracks.set(name, track);
    this.duration = Math.max(this.duration, buffer.duration);
    if (this.playing) this.start(name, track, this.context.currentTime + 0.03);
  }

  remove(name) {
    this.tracks.get(name)?.source?.stop();
    this.tracks.delete(name);
  }

  loudness(name, track) {
    if (name !== this.current) return 0;
    return this.full && track.peak > 1e-8 ? 1 / track.peak : 1;
  }

  // Starts a sound at a time of the audio clock, at the position that the timeline has then.
  start(name, track, when) {
    const at = this.at(when);
    if (at >= this.duration) return;
    track.source = new AudioBufferSourceNode(this.context, { buffer: track.buffer, loop: this.repeat });
    track.gain = new GainNode(this.context, { gain: this.loudness(name, track) });
    track.source.connect(track.gain).connect(this.context.destination);
    track.source.start(when, at);
  }

  at(time) {
    const position = Math.max(0, time - this.began);
    return this.repeat && this.duration ? position % this.duration : position;
  }

  get position() {
    if (!this.playing) return this.offset;
    return Math.min(this.at(this.context.currentTime), this.duration);
  }

  async play() {
    if (this.playing || !this.duration) return;
    await this.context.resume();
    if (this.playing) return;
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    const when = this.context.currentTime + 0.05;
    this.began = when - this.offset;
    this.playing = true;
    for (const [name, track] of this.tracks) this.start(name, track, when);
    this.changed();
  }

  stop(position = this.position) {
    const was = this.playing;
    this.offset = position;
    this.playing = false;
    for (const track of this.tracks.values()) {
      track.source?.stop();
      track.source = track.gain = undefined;
    }
    if (was) this.changed();
  }

  async seek(position) {
    const was = this.playing;
    this.stop(Math.min(Math.max(0, position), this.duration));
    if (was) await this.play();
  }

  // Called for each picture: notices the end.
  tick() {
    if (this.playing && !this.repeat && this.context.currentTime - this.began >= this.duration) this.stop(0);
  }

  hear(name) {
    this.current = name;
    if (!this.context) return;
    const now = this.context.currentTime;
    for (const [each, track] of this.tracks) {
      if (!track.gain) continue;
      track.gain.gain.cancelScheduledValues(now);
      track.gain.gain.setValueAtTime(track.gain.gain.value, now);
      track.gain.gain.linearRampToValueAtTime(this.loudness(each, track), now + FADE);
    }
  }
}
