// The moment and the refinement step that all plots show, and the bar that moves them.
class Cursor {
  constructor(runs) {
    this.runs = runs;
    this.times = runs[0].chunks.map((chunk) => chunk.time_s);
    this.chunk = 0;
    this.step = this.steps() - 1;
    this.watchers = [];
  }
  get time() { return this.times[this.chunk]; }
  steps(chunk = this.chunk) {
    return Math.max(1, ...this.runs.map((run) => {
      const { refinement } = this.chunkOf(run, this.times[chunk]) || {};
      return refinement ? refinement.kinds.length : 1;
    }));
  }
  // Of each run the chunk at this time, or the last before.
  chunkOf(run, time = this.time) {
    if (!run.chunks.length) return null;
    return run.chunks[lastBefore(run.chunks.map((chunk) => chunk.time_s), time)];
  }
  set({ chunk = this.chunk, step = this.step, time }) {
    if (time !== undefined) chunk = lastBefore(this.times, time);
    chunk = Math.max(0, Math.min(this.times.length - 1, chunk));
    const last = this.steps() - 1;
    const newLast = this.steps(chunk) - 1;
    // Who looks at the end result keeps looking at it.
    step = Math.max(0, Math.min(newLast, step === last && chunk !== this.chunk ? newLast : step));
    if (chunk === this.chunk && step === this.step) return;
    [this.chunk, this.step] = [chunk, step];
    this.tell();
  }
  tell() { this.watchers.forEach((watcher) => watcher(this)); }
  watch(watcher) { this.watchers.push(watcher); watcher(this); }
}

function scrubBar(cursor) {
  const slider = (id, label, changed) => {
    const input = el("input", { type: "range", id, min: 0, step: 1, oninput: () => changed(Number(input.value)) });
    return [el("label", { for: id }, label), input];
  };
  const [chunkLabel, chunk] = slider("chunk", "Chunk", (value) => cursor.set({ chunk: value }));
  const [stepLabel, step] = slider("step", "Refinement step", (value) => cursor.set({ step: value }));
  const said = el("output", { id: "where", for: "chunk step" });
  let timer = 0;
  const play = el("button", { type: "button", id: "play" }, "Play");
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "Pause";
    timer = setInterval(() => {
      if (cursor.step + 1 < cursor.steps()) cursor.set({ step: cursor.step + 1 });
      else if (cursor.chunk + 1 < cursor.times.length) cursor.set({ chunk: cursor.chunk + 1, step: 0 });
      else stop();
    }, 90);
  });
  cursor.watch(() => {
    chunk.max = cursor.times.length - 1;
    step.max = cursor.steps() - 1;
    chunk.value = cursor.chunk;
    step.value = cursor.step;
    const { refinement } = cursor.chunkOf(cursor.runs[0]) || {};
    const at = refinement ? Math.min(cursor.step, refinement.kinds.length - 1) : 0;
    const flow = refinement ? `, ${refinement.kinds[at]} at t = ${text(refinement.times.at(at))}` : "";
    chunk.setAttribute("aria-valuetext", `chunk ${cursor.chunk + 1} at ${text(cursor.time, 4)} seconds`);
    step.setAttribute("aria-valuetext", `step ${cursor.step + 1}${flow}`);
    said.textContent = `chunk ${cursor.chunk + 1} of ${cursor.times.length}, ${text(cursor.time, 4)} s; ` +
      `step ${cursor.step + 1} of ${cursor.steps()}${flow}`;
  });
  document.addEventListener("keydown", (event) => scrubKey(event, cursor));
  return el("footer", { class: "scrub", role: "region", "aria-label": "Scrubber" }, play,
    chunkLabel, chunk, stepLabel, step, said);
}

// Arrows scrub wherever they mean nothing else.
function scrubKey(event, cursor) {
  const busy = event.target.closest("input, select, textarea, video, .scroll");
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (busy || !by || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (event.shiftKey) cursor.set({ step: cursor.step + by });
  else cursor.set({ chunk: cursor.chunk + by });
}
