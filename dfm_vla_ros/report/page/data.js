// Content as the page's scripts hold it: arrays inflated once, files as blob URLs when shown.
class Tensor {
  constructor(data, shape) {
    this.data = data;
    this.shape = shape;
    this.strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  }
  get length() { return this.shape[0]; }
  at(...index) {
    let place = 0;
    for (let i = 0; i < index.length; i++) place += index[i] * this.strides[i];
    return this.data[place];
  }
  row(i) {
    const size = this.strides[0];
    return new Tensor(this.data.subarray(i * size, (i + 1) * size), this.shape.slice(1));
  }
  column(...rest) {
    return Array.from({ length: this.length }, (_, i) => this.at(i, ...rest));
  }
}

const KINDS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array,
  float32: Float32Array,
};
const NOT_A_NUMBER = 65535;

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function tensor(packed, buffer) {
  const count = packed.shape.reduce((a, b) => a * b, 1);
  const levels = new KINDS[packed.type](buffer, packed.array, count);
  if (packed.step === undefined) return new Tensor(levels, packed.shape);
  const values = Float64Array.from(levels, (level) =>
    level === NOT_A_NUMBER ? NaN : packed.low + packed.step * level);
  return new Tensor(values, packed.shape);
}

function revive(value, buffer) {
  if (Array.isArray(value)) return value.map((part) => revive(part, buffer));
  if (value === null || typeof value !== "object") return value;
  if ("array" in value && "type" in value) return tensor(value, buffer);
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [name, revive(part, buffer)]));
}

let files = new Uint8Array();
const urls = new Map();

function urlOf(file) {
  const { file: start, size } = file.data;
  if (!urls.has(start)) {
    const part = files.subarray(start, start + size);
    urls.set(start, URL.createObjectURL(new Blob([part], { type: file.kind })));
  }
  return urls.get(start);
}

async function load() {
  const data = JSON.parse(document.getElementById("data").textContent);
  files = bytesOf("files");
  return revive(data, await inflate(bytesOf("arrays")));
}

function picture(file, label) {
  return el("img", { src: urlOf(file), alt: label, width: file.width, height: file.height });
}

function video(film) {
  return el("video", {
    src: urlOf(film), controls: true, muted: true, preload: "metadata", "aria-label": film.caption,
    width: film.width, height: film.height,
  });
}
