// Draws a spectrogram with axes in Hz and seconds, a mask as a veil over what is not kept, regions and a playhead.

const LEFT = 66, BOTTOM = 40, TOP = 8, RIGHT = 6;
// Points of matplotlib's colour map "magma" (CC0), evenly spaced, as in the figures of a run.
const MAGMA = [
  [0, 0, 4], [20, 14, 54], [59, 15, 112], [100, 26, 128], [140, 41, 129], [183, 55, 121], [222, 73, 104], [247, 112, 92],
  [254, 159, 109], [254, 207, 146], [252, 253, 191],
];
const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (MAGMA.length - 1), low = Math.min(Math.floor(place), MAGMA.length - 2);
  return MAGMA[low].map((from, i) => Math.round(from + (place - low) * (MAGMA[low + 1][i] - from)));
});
const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertz = (value) => 700 * (10 ** (value / 2595) - 1);

export class Spectrogram {
  constructor(back, front) {
    this.back = back;
    this.front = front;
    this.scale = "mel";
    this.view = null; // {rows, columns, row_hz, column_s, seconds, rate}
    this.levels = null; // Uint8Array, rows x columns
    this.mask = null; // the same, or null
    new ResizeObserver(() => this.draw()).observe(back.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  get nyquist() { return this.view.rate / 2; }
  get width() { return this.back.clientWidth - LEFT - RIGHT; }
  get height() { return this.back.clientHeight - TOP - BOTTOM; }
  x(seconds) { return LEFT + (seconds / this.view.seconds) * this.width; }
  y(frequency) {
    const share = this.scale === "mel" ? mel(frequency) / mel(this.nyquist) : frequency / this.nyquist;
    return TOP + (1 - share) * this.height;
  }
  seconds(x) { return Math.min(Math.max(0, (x - LEFT) / this.width), 1) * this.view.seconds; }
  frequency(y) {
    const share = Math.min(Math.max(0, 1 - (y - TOP) / this.height), 1);
    return this.scale === "mel" ? hertz(share * mel(this.nyquist)) : share * this.nyquist;
  }

  draw() {
    if (!this.view || !this.levels || this.width < 10) return;
    const dots = window.devicePixelRatio || 1;
    for (const canvas of [this.back, this.front]) {
      canvas.width = Math.round(canvas.clientWidth * dots);
      canvas.height = Math.round(canvas.clientHeight * dots);
    }
    const pen = this.back.getContext("2d");
    pen.scale(dots, dots);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.picture(Math.round(this.height * dots)), LEFT, TOP, this.width, this.height);
    this.axes(pen);
    this.over();
  }

  // The picture as a canvas of one pixel a column, and as many rows as the screen has.
  picture(height) {
    const { rows, columns, row_hz } = this.view;
    const image = new ImageData(columns, height);
    for (let y = 0; y < height; y++) {
      const frequency = this.frequency(TOP + ((y + 0.5) / height) * this.height);
      const row = Math.min(rows - 1, Math.round(frequency / row_hz));
      for (let x = 0; x < columns; x++) {
        const [red, green, blue] = COLOURS[this.levels[row * columns + x]];
        const veil = this.mask ? 0.82 * (1 - this.mask[row * columns + x] / 255) : 0;
        const at = 4 * (y * columns + x);
        image.data[at] = red + veil * (118 - red);
        image.data[at + 1] = green + veil * (126 - green);
        image.data[at + 2] = blue + veil * (136 - blue);
        image.data[at + 3] = 255;
      }
    }
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = height;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  axes(pen) {
    const style = getComputedStyle(document.documentElement);
    pen.fillStyle = pen.strokeStyle = style.getPropertyValue("--muted");
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    let last = Infinity;
    for (const value of this.frequencies()) {
      const y = this.y(value);
      if (last - y < 15) continue;
      last = y;
      pen.fillRect(LEFT - 5, Math.round(y) - 0.5, 5, 1);
      pen.fillText(value.toLocaleString("en"), LEFT - 8, Math.max(y, TOP + 5));
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const step = nice(this.view.seconds / Math.max(2, this.width / 90));
    for (let second = 0; second <= this.view.seconds + 1e-9; second += step) {
      const x = this.x(second);
      pen.fillRect(Math.round(x) - 0.5, TOP + this.height, 1, 5);
      pen.fillText(String(+second.toFixed(3)), Math.min(x, LEFT + this.width - 8), TOP + this.height + 8);
    }
    pen.fillText("Time (s)", LEFT + this.width / 2, TOP + this.height + 24);
    pen.textAlign = "left";
    pen.save();
    pen.translate(8, TOP + this.height / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText("Frequency (Hz)", 0, 0);
    pen.restore();
  }

  frequencies() {
    if (this.scale === "mel") return [0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000].filter((each) => each <= this.nyquist);
    const step = nice(this.nyquist / Math.max(2, this.height / 45));
    return Array.from({ length: Math.floor(this.nyquist / step) + 1 }, (_, i) => i * step);
  }

  // Regions, the rectangle being drawn, and the playhead, over the picture.
  over(regions = this.regions ?? [], drawn = this.drawn, position = this.position ?? 0) {
    Object.assign(this, { regions, drawn, position });
    if (!this.view) return;
    const dots = window.devicePixelRatio || 1, pen = this.front.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, this.front.width, this.front.height);
    for (const each of [...regions, ...(drawn ? [drawn] : [])]) {
      const left = this.x(each.start_s), right = this.x(each.end_s), top = this.y(each.high_hz), bottom = this.y(each.low_hz);
      pen.fillStyle = each.keep ? "rgb(90 220 170 / 22%)" : "rgb(20 20 25 / 60%)";
      pen.fillRect(left, top, right - left, bottom - top);
      pen.lineWidth = 4;
      pen.strokeStyle = "#fff";
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.lineWidth = 2;
      pen.strokeStyle = style.getPropertyValue(each.keep ? "--keep" : "--mute");
      pen.setLineDash(each === drawn ? [6, 4] : []);
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.setLineDash([]);
    }
    const x = this.x(Math.min(position, this.view.seconds));
    pen.fillStyle = "#000";
    pen.fillRect(x - 2, TOP, 4, this.height);
    pen.fillStyle = "#fff";
    pen.fillRect(x - 1, TOP, 2, this.height);
  }
}

function nice(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least);
}
